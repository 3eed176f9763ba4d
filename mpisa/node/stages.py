"""Where a node's CPU time goes, by stage, for /metrics.

A stage counts what its own thread spent inside it, without the stages measured within: so they add up, and what is
missing from the process's whole time is the network, HTTP and the event loop. Waiting costs nothing here. Asking for a
thread's CPU time is a system call: what happens for every transaction is measured once in so many times, and that
once counts for all of them.
"""

from __future__ import annotations

import threading
import time
from enum import StrEnum
from types import TracebackType
from typing import Self


class Stage(StrEnum):
    """What is measured."""

    SUBMISSION = "submission"
    SIGNATURES = "signatures"
    VERTEX_CHECKS = "vertex_checks"
    ENGINE = "engine"
    VERTEX_STORE = "vertex_store"
    EXECUTION = "execution"
    STATE_MAP = "state_map"
    CHAIN_STORE = "chain_store"
    HEADER = "header"


SAMPLED = {Stage.SUBMISSION: 31, Stage.SIGNATURES: 16}
"""Prime to each other: else those within others would always be sampled together with them."""


class Stages:
    """CPU seconds by stage; any thread may measure."""

    def __init__(self) -> None:
        self.seconds: dict[Stage, float] = dict.fromkeys(Stage, 0.0)
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._turns = dict.fromkeys(SAMPLED, 0)

    def sample(self, stage: Stage) -> Measure | None:
        """A measurement once in SAMPLED times, else None; a stage is sampled by one thread at a time, or nearly so."""
        turn = self._turns[stage] = self._turns[stage] + 1
        return None if turn % SAMPLED[stage] else self.measure(stage, SAMPLED[stage])

    def measure(self, stage: Stage, weight: int = 1) -> Measure:
        """`with stages.measure(stage): ...`, without waiting inside."""
        open_ones: list[Measure] | None = getattr(self._threads, "open", None)
        if open_ones is None:
            open_ones = self._threads.open = []
        return Measure(self, stage, open_ones, weight)

    def add(self, stage: Stage, seconds: float) -> None:
        """Counts CPU time."""
        with self._lock:
            self.seconds[stage] += seconds


class Measure:
    """One measurement that runs; see Stages.measure."""

    __slots__ = ("_begun", "_open", "_stage", "_stages", "_weight", "_within")

    def __init__(self, stages: Stages, stage: Stage, open_ones: list[Measure], weight: int) -> None:
        self._stages = stages
        self._stage = stage
        self._open = open_ones
        self._weight = weight
        self._within = 0.0
        self._begun = 0.0

    def __enter__(self) -> Self:
        self._open.append(self)
        self._begun = time.thread_time()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        spent = time.thread_time() - self._begun
        self._open.pop()
        if self._open:
            self._open[-1]._within += spent * self._weight
        self._stages.add(self._stage, (spent - self._within) * self._weight)
