"""What a long run comes to: the last minutes' latencies, and memory once caches are full."""

import os

from mpisa.cli.bench.machine import own_bytes, resident_bytes
from mpisa.cli.bench.soak import Minute, figures


def minutes(*own: float) -> list[Minute]:
    return [Minute(90.0 + at, 110.0 + at, 200.0 + at, 1_000.0, mib, mib + 50) for at, mib in enumerate(own)]


def test_memory_that_fills_its_caches_and_stays_is_flat() -> None:
    found = {item.name: item for item in figures(minutes(*range(110, 150, 10), *[160.0] * 16))}
    assert found["soak_memory_growth_mib"].value == 0.0
    assert found["soak_memory_growth_mib"].met
    assert found["soak_memory_growth_mib"].facts["first_mib"] == 115.0
    assert found["soak_ordered_p50_ms"].value == 108.5
    assert found["soak_ordered_p50_ms"].facts["first_ms"] == 90.5
    assert found["soak_ordered_p50_ms"].met is False


def test_memory_that_grows_on_is_told() -> None:
    found = {item.name: item for item in figures(minutes(*range(110, 310, 10)))}
    assert found["soak_memory_growth_mib"].value == 140.0
    assert found["soak_memory_growth_mib"].met is False


def test_one_minute_is_compared_with_itself() -> None:
    assert [item.value for item in figures(minutes(120.0))] == [90.0, 110.0, 200.0, 0.0]


def test_own_memory_is_part_of_what_is_resident() -> None:
    pid = os.getpid()
    assert 0 < own_bytes(pid) <= resident_bytes(pid)
