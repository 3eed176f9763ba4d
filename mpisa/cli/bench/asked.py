"""A process that is measured: it says who it is in a line of JSON, then answers lines of JSON by lines of JSON.

Each side of a comparison runs in one, so that nothing of one counts in the other: not its memory, not its threads, not
its open files. A line to it is `[command, argument...]`.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

ANSWER_TIMEOUT_S = 1800.0
ERRORS_SHOWN = 2000


class Asked:
    """See the module. A context manager: leaving it ends the process."""

    def __init__(self, command: Sequence[str], errors: Path, cwd: Path | None = None) -> None:
        self._errors = errors
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=cwd
            )
        self.hello = self._read(ANSWER_TIMEOUT_S)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def ask(self, command: str, *arguments: Any, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Its answer. Raises RuntimeError when it ended, or gave none in time: then it is killed."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps([command, *arguments], default=str) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended() from None
        return self._read(timeout_s)

    def stop(self) -> None:
        """Kill it: what it measured is known by now. Twice is harmless."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _read(self, timeout_s: float) -> Any:
        assert self._process.stdout is not None
        watch = threading.Timer(timeout_s, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line:
            raise self._ended()
        return json.loads(line)

    def _ended(self) -> RuntimeError:
        text = self._errors.read_text(errors="replace")[-ERRORS_SHOWN:]
        return RuntimeError(f"a measured process ended, or gave no answer in time: {text}")
