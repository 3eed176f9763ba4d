"""A cache bounded in bytes, in two generations: what is written again while the old one fades is carried over.

A hit costs one or two dictionary look-ups, with no list to keep in order. When the young generation has grown to half
the bound it becomes the old one, and the old one goes. Reading carries nothing over: a reader beside the writer could
put back what was just replaced. One writer at a time (the caller's lock); reads need none.
"""

from __future__ import annotations

from typing import Generic, TypeVar

K = TypeVar("K")

ENTRY_OVERHEAD = 160
"""What a small bytes object, its key and their place in a dictionary cost beside the payload."""


class ByteCache(Generic[K]):
    """Keys to bytes; what it holds, overhead included, stays below about `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._half = max_bytes // 2
        self._young: dict[K, bytes] = {}
        self._old: dict[K, bytes] = {}
        self._young_bytes = 0
        self._old_bytes = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    @property
    def size(self) -> int:
        """Bytes held, estimated."""
        return self._young_bytes + self._old_bytes

    def get(self, key: K) -> bytes | None:
        """The cached bytes, or None."""
        found = self._young.get(key)
        return self._old.get(key) if found is None else found

    def put(self, key: K, value: bytes) -> None:
        """Keep a value, in place of any before."""
        before = self._young.get(key)
        self._young[key] = value
        self._young_bytes += len(value) + ENTRY_OVERHEAD if before is None else len(value) - len(before)
        if self._young_bytes > self._half:
            self._old, self._old_bytes = self._young, self._young_bytes
            self._young, self._young_bytes = {}, 0

    def drop(self, key: K) -> None:
        """Forget a value."""
        gone = self._young.pop(key, None)
        if gone is not None:
            self._young_bytes -= len(gone) + ENTRY_OVERHEAD
        self._old.pop(key, None)
