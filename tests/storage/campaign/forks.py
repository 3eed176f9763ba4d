"""Processes to kill: forks of this one, which must have opened no store and started no thread."""

import json
import os
import select
import signal
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpisa.cli.bench.machine import peak_bytes
from tests.storage.campaign.victims import Say, speaker

READ_BYTES = 1 << 16
Hear = Callable[..., None]


class Fork:
    """A fork that does some work and says things meanwhile. What it prints goes to a file."""

    def __init__(self, work: Callable[[Say], None], prints: Path) -> None:
        self._from, to = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _run(work, to, prints)
        os.close(to)
        self._rest = b""
        self._open = True
        self.status: int | None = None
        self.peak = 0

    def listen(self, seconds: float, hear: Hear) -> bool:
        """Hear what it says for so long; True when it has ended by itself before."""
        deadline = time.monotonic() + seconds
        while self._open and (left := deadline - time.monotonic()) > 0:
            if select.select([self._from], [], [], left)[0]:
                self._read(hear)
        if not self._open:
            self._wait()
        return not self._open

    def kill(self, hear: Hear) -> None:
        """SIGKILL, unless it has ended, and hear what it had said."""
        if self.status is not None:
            return
        with suppress(ValueError):  # it has just ended, and has no memory any more
            self.peak = peak_bytes(self.pid)
        os.kill(self.pid, signal.SIGKILL)
        while self._open:
            self._read(hear)
        self._wait()

    def _read(self, hear: Hear) -> None:
        data = os.read(self._from, READ_BYTES)
        if not data:
            self._open = False
            os.close(self._from)
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            hear(*json.loads(line))

    def _wait(self) -> None:
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _run(work: Callable[[Say], None], to: int, prints: Path) -> None:
    """The whole life of a fork."""
    code = 1
    try:
        out = os.open(prints, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for descriptor in (1, 2):
            os.dup2(out, descriptor)
        work(speaker(to))
        code = 0
    except BaseException:  # noqa: BLE001 - a process's root
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def ask(work: Callable[[], Any], prints: Path, seconds: float = 300.0) -> Any:
    """What `work` returns, done in a fork. Raises RuntimeError when it fails or takes too long."""
    answers: list[Any] = []
    fork = Fork(lambda say: say(work()), prints)
    if not fork.listen(seconds, answers.append):
        fork.kill(answers.append)
    if fork.status != 0:
        raise RuntimeError(f"exit code {fork.status}: {prints.read_text()[-600:]}")
    return answers[0]
