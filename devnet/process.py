"""Processes that we may end: a pid alone is not an identity, since the kernel gives numbers out again.

An identity is pid, start time (clock ticks since boot, field 22 of /proc/PID/stat) and boot id. Signals go through a
pidfd that was opened before the identity was checked, so the process checked is the process signalled. A zombie counts
as dead: it holds no port and no file. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, distinguishable from any other that ever had its pid. `started` is in clock ticks since boot."""

    pid: int
    started: int
    boot: str


def boot_id() -> str:
    """The kernel's id of this boot."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process, or None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and parentheses
    return fields[0], int(fields[19])


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of a living process, or None."""
    found = _stat(pid)
    if found is None or found[0] in "ZX":
        return None
    return ProcessIdentity(pid, found[1], boot_id())


def is_paused(identity: ProcessIdentity) -> bool:
    """Whether exactly this process is stopped by a signal."""
    found = _stat(identity.pid)
    return found is not None and found[0] == "T" and is_alive(identity)


def is_alive(identity: ProcessIdentity) -> bool:
    """Whether exactly this process still runs."""
    return identify(identity.pid) == identity


@contextlib.contextmanager
def _opened(identity: ProcessIdentity) -> Iterator[int | None]:
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield descriptor if is_alive(identity) else None
    finally:
        os.close(descriptor)


def send_signal(identity: ProcessIdentity, number: int) -> bool:
    """Signal exactly this process; False when it no longer runs."""
    with _opened(identity) as descriptor:
        if descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        return True


def wait_gone(
    identities: Iterable[ProcessIdentity], timeout_s: float, *, first: bool = False
) -> tuple[ProcessIdentity, ...]:
    """Wait until all have ended (or, with `first`, any one); returns those that still run after `timeout_s` seconds.

    Our own children are reaped.
    """
    deadline = time.monotonic() + timeout_s
    with contextlib.ExitStack() as stack:
        poller = select.poll()
        watched: dict[int, ProcessIdentity] = {}
        wanted = tuple(identities)
        for identity in wanted:
            descriptor = stack.enter_context(_opened(identity))
            if descriptor is not None:
                poller.register(descriptor, select.POLLIN)
                watched[descriptor] = identity
        while watched and not (first and len(watched) < len(wanted)):
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                break
            for descriptor, _event in poller.poll(left_ms):
                poller.unregister(descriptor)
                _reap(watched.pop(descriptor).pid)
        return tuple(watched.values())


def _reap(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # not our child: its parent or init reaps it
        os.waitpid(pid, os.WNOHANG)


def terminate(
    identities: Iterable[ProcessIdentity], *, grace_s: float
) -> tuple[tuple[ProcessIdentity, ...], tuple[ProcessIdentity, ...]]:
    """SIGTERM (one that is paused has to go on to hear it), wait up to `grace_s` seconds, SIGKILL the rest. Returns
    (ended by themselves, killed).
    """
    asked = tuple(identity for identity in identities if send_signal(identity, signal.SIGTERM))
    for identity in asked:
        send_signal(identity, signal.SIGCONT)
    stubborn = wait_gone(asked, grace_s)
    for identity in stubborn:
        send_signal(identity, signal.SIGKILL)
    wait_gone(stubborn, grace_s)
    return tuple(identity for identity in asked if identity not in stubborn), stubborn


def lock_holder(path: Path) -> ProcessIdentity | None:
    """The living process that holds the kernel's lock (flock) on a file, found without touching the lock."""
    try:
        inode = path.stat().st_ino
        lines = (_PROC / "locks").read_text().splitlines()
    except FileNotFoundError:
        return None
    for line in lines:
        fields = line.split()  # "1: FLOCK ADVISORY WRITE 4711 fd:01:123456 0 EOF"
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == str(inode):
            return identify(int(fields[4]))
    return None


def thread_count() -> int:
    """Threads of this very process; forking is safe only at one."""
    return sum(1 for _ in (_PROC / "self/task").iterdir())
