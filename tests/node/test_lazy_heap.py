"""A heap with entries that die unseen."""

from __future__ import annotations

from mpisa.node.lazy_heap import SLACK, LazyHeap


def test_the_lowest_living_entry_is_first() -> None:
    dead: set[bytes] = set()
    heap = LazyHeap[int](lambda _order, name: name not in dead)
    for order, name in ((3, b"c"), (1, b"a"), (2, b"b")):
        heap.push(order, name)
    dead.add(b"a")
    assert heap.first() == (2, b"b")
    heap.pop()
    assert heap.first() == (3, b"c")
    dead.add(b"c")
    assert heap.first() is None


def test_dead_and_repeated_entries_are_thrown_out_once_they_are_many() -> None:
    living = {b"x"}
    heap = LazyHeap[int](lambda _order, name: name in living)
    for number in range(10 * SLACK):
        heap.push(number, b"dead%d" % number)
        heap.push(number, b"x")
    assert len(heap) <= SLACK + 2
    assert heap.first() == (0, b"x")
