"""Forking nodes from one parent that has imported the libraries once.

Importing takes seconds, forking milliseconds, and forked nodes share the imported pages. The parent must have one
thread only and no event loop. The child leaves the parent's session (so that Ctrl-C reaches the parent alone), its
standard streams become its log file, and every other descriptor it inherited is closed: a caller reading our stdout
through a pipe would otherwise wait for the nodes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from devnet.process import ProcessIdentity, identify, thread_count

LOGS = ("log/output.log", "log/node.log")
"""What the process itself printed (a traceback, say), and what the node logs and rotates."""

Serve = Callable[[Path], None]
"""Runs the node of a home until it is told to stop."""

_PR_SET_NAME = 15
_SHOWN_BYTES = 16_384


def prepare_to_fork() -> None:
    """Move what is imported out of the collector's sight, so that children don't copy pages by collecting.

    The collector should have been off since before the imports (`gc.disable`): collecting would leave holes in pages
    that are to be shared, and costs time. Each child switches it on.
    """
    assert thread_count() == 1, "threads do not survive a fork: none may run before the nodes are forked"
    gc.freeze()


def fork_node(name: str, home: Path, serve: Serve) -> ProcessIdentity:
    """Start one node in a child process; its output goes to HOME/log."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _become_node(name, home, serve)
    identity = identify(pid)
    # An unreaped child keeps its pid and start time even when it has already ended.
    return identity or ProcessIdentity(pid, 0, "")


def _become_node(name: str, home: Path, serve: Serve) -> None:
    code = 1
    try:
        gc.enable()
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _redirect(home / LOGS[0])
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"mpisa-{name}".encode()[:15], 0, 0, 0)
        serve(home)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - the node's root: say it in the log, then end
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _redirect(log: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    log.parent.mkdir(exist_ok=True)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(3, min(limit, 1 << 16))


def log_sizes(home: Path) -> tuple[int, ...]:
    """How long a node's logs are now: what a start adds comes after."""
    return tuple(path.stat().st_size if path.exists() else 0 for path in (home / name for name in LOGS))


def added_lines(home: Path, sizes: tuple[int, ...], count: int = 15) -> tuple[str, ...]:
    """The end of what was logged since `sizes`: what the process printed, else what the node logged."""
    for name, size in zip(LOGS, sizes, strict=True):
        lines = _tail(home / name, count, _SHOWN_BYTES, after=size)
        if lines:
            return lines
    return ()


def last_lines(home: Path, count: int, *, max_bytes: int) -> tuple[str, ...]:
    """The end of a node's log, with what its process printed after it."""
    return (*_tail(home / LOGS[1], count, max_bytes), *_tail(home / LOGS[0], count, max_bytes))


def _tail(file: Path, count: int, max_bytes: int, *, after: int = 0) -> tuple[str, ...]:
    try:
        with file.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            end = stream.tell()
            stream.seek(max(after if after <= end else 0, end - max_bytes))
            text = stream.read(max_bytes).decode(errors="replace")
    except FileNotFoundError:
        return ()
    return tuple(text.splitlines()[-count:]) if count else ()
