"""CPU time by stage: exclusive, and counted from any thread."""

import threading
import time

from mpisa.node.stages import Stage, Stages


def _burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_stage_within_another_counts_once() -> None:
    stages = Stages()
    before = time.thread_time()
    with stages.measure(Stage.EXECUTION):
        with stages.measure(Stage.SIGNATURES):
            _burn(0.02)
        _burn(0.005)
    whole = time.thread_time() - before
    assert stages.seconds[Stage.SIGNATURES] >= 0.02
    assert stages.seconds[Stage.EXECUTION] >= 0.005
    assert stages.seconds[Stage.SIGNATURES] + stages.seconds[Stage.EXECUTION] <= whole
    assert stages.seconds[Stage.ENGINE] == 0.0


def test_threads_add_up() -> None:
    stages = Stages()

    def work() -> None:
        with stages.measure(Stage.VERTEX_CHECKS):
            _burn(0.01)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stages.seconds[Stage.VERTEX_CHECKS] >= 0.03


def test_what_fails_is_counted_too() -> None:
    stages = Stages()
    try:
        with stages.measure(Stage.ENGINE):
            _burn(0.005)
            raise ValueError
    except ValueError:
        pass
    assert stages.seconds[Stage.ENGINE] >= 0.005
