"""The Range header: one span of an answer's bytes. Of several the first that can be served is, as HTTP allows."""

from __future__ import annotations

import re
from typing import Final

from mpisa.api.problems import RangeNotSatisfiable

MAX_RANGES: Final = 16
_ONE: Final = re.compile(r"([0-9]{0,18})-([0-9]{0,18})", re.ASCII)


def read_range(text: str | None, size: int) -> tuple[int, int] | None:
    """The span, half open, of an answer of `size` bytes; None for the whole: without a header, and for one that makes
    no sense, which HTTP says to pass over. Raises RangeNotSatisfiable where nothing of it lies inside.
    """
    if text is None:
        return None
    unit, separator, rest = text.partition("=")
    parts = [_ONE.fullmatch(part.strip()) for part in rest.split(",", MAX_RANGES)]
    if unit.strip().lower() != "bytes" or not separator or len(parts) > MAX_RANGES:
        return None
    spans = []
    for found in parts:
        if found is None or found[0] == "-" or (found[1] and found[2] and int(found[2]) < int(found[1])):
            return None
        spans.append(_span(found[1], found[2], size))
    for span in spans:
        if span[0] < span[1]:
            return span
    raise RangeNotSatisfiable(f"range {text[:80]!r} lies outside of {size} bytes", size)


def _span(first: str, last: str, size: int) -> tuple[int, int]:
    if not first:
        return max(size - int(last), 0), size
    return int(first), min(int(last) + 1, size) if last else size
