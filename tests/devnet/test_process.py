import os
import signal
import subprocess
import sys
from pathlib import Path

from devnet.process import (
    ProcessIdentity,
    identify,
    is_alive,
    lock_holder,
    send_signal,
    terminate,
    thread_count,
    wait_gone,
)


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"])


def test_a_living_process_has_an_identity() -> None:
    identity = identify(os.getpid())
    assert identity is not None
    assert identity.pid == os.getpid()
    assert is_alive(identity)


def test_a_zombie_counts_as_dead() -> None:
    child = sleeper()
    identity = identify(child.pid)
    assert identity is not None
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the process table
    assert not is_alive(identity)
    assert identify(child.pid) is None
    child.wait()


def test_another_start_time_is_another_process() -> None:
    child = sleeper()
    try:
        identity = identify(child.pid)
        assert identity is not None
        imposter = ProcessIdentity(identity.pid, identity.started - 1, identity.boot)
        assert not is_alive(imposter)
        assert not send_signal(imposter, signal.SIGKILL)
        assert child.poll() is None
    finally:
        child.kill()
        child.wait()


def test_terminate_says_who_had_to_be_killed() -> None:
    program = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); signal.pause()"
    )
    stubborn = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    gentle = sleeper()
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    first, second = identify(gentle.pid), identify(stubborn.pid)
    assert first is not None
    assert second is not None
    assert terminate([first, second], grace_s=0.3) == ((first,), (second,))
    assert not is_alive(first)
    assert not is_alive(second)
    stubborn.stdout.close()
    stubborn.wait()
    gentle.wait()


def test_wait_for_the_first_returns_the_others() -> None:
    one, other = sleeper(), sleeper()
    identities = [identify(one.pid), identify(other.pid)]
    assert identities[0] is not None
    assert identities[1] is not None
    one.kill()
    assert wait_gone([item for item in identities if item], 30, first=True) == (identities[1],)
    other.kill()
    one.wait()
    other.wait()


def test_nobody_to_wait_for() -> None:
    assert wait_gone([], 30) == ()
    assert terminate([], grace_s=30) == ((), ())


def test_the_holder_of_a_lock_is_found_without_touching_it(tmp_path: Path) -> None:
    file = tmp_path / "node.lock"
    assert lock_holder(file) is None
    file.touch()
    assert lock_holder(file) is None
    program = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    holder = subprocess.Popen([sys.executable, "-c", program, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert lock_holder(file) == identify(holder.pid)
    holder.communicate(b"\n")
    assert lock_holder(file) is None


def test_thread_count_counts_this_process() -> None:
    assert thread_count() >= 1
