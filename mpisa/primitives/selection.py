"""Which blocks of a DAG somebody wants: `dag-scope`, `entity-bytes`, order and duplicates of the trustless gateway.

The words are those of the specification (specs.ipfs.tech, trustless gateway). A query's words win over those of the
Accept header. What is selected always begins with the blocks of the path, so that a receiver can check the path too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from mpisa.primitives.errors import UsageError

MAX_OFFSET: Final = (1 << 63) - 1
_RANGE: Final = re.compile(r"(-?[0-9]{1,19}):(-?[0-9]{1,19}|\*)", re.ASCII)


class Scope(StrEnum):
    """How much of what a path leads to."""

    BLOCK = "block"
    """Its root block."""

    ENTITY = "entity"
    """What it takes to read a file whole or to list a directory; other codecs: the root block."""

    ALL = "all"
    """Everything below it."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """Bytes `first` to `last`, both included; negative ones count from the end (-1: the last byte), None is the end."""

    first: int
    last: int | None

    def clamp(self, size: int) -> tuple[int, int]:
        """The same, half open, within an entity of `size` bytes; empty when nothing of it lies inside."""
        start = self.first if self.first >= 0 else max(size + self.first, 0)
        last = size - 1 if self.last is None else self.last if self.last >= 0 else size + self.last
        start, end = min(start, size), last + 1
        return start, max(start, min(end, size))

    def __str__(self) -> str:
        return f"{self.first}:{'*' if self.last is None else self.last}"


WHOLE: Final = ByteRange(0, None)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is wanted below a path; `ordered`: depth first is asked for (the only order that is sent here anyway)."""

    scope: Scope = Scope.ALL
    entity_bytes: ByteRange | None = None
    duplicates: bool = True
    ordered: bool = True


def parse_selection(query: Mapping[str, str], accept_parameters: Mapping[str, str]) -> Selection:
    """From a request's query (`dag-scope`, `entity-bytes`, `car-...`) and the parameters of its Accept header.

    `entity-bytes` alone means the entity. Raises UsageError for words that the specification doesn't know.
    """
    version = _word(query, "car-version", accept_parameters, "version", "1")
    _choose("CAR version", version, ("1",))
    order = _choose("CAR order", _word(query, "car-order", accept_parameters, "order", "dfs"), ("dfs", "unk"))
    duplicates = _choose("CAR dups", _word(query, "car-dups", accept_parameters, "dups", "y"), ("y", "n"))
    entity_bytes = parse_entity_bytes(query["entity-bytes"]) if query.get("entity-bytes") else None
    scope = query.get("dag-scope") or (Scope.ALL if entity_bytes is None else Scope.ENTITY)
    _choose("dag-scope", scope, tuple(Scope))
    if entity_bytes is not None and scope != Scope.ENTITY:
        raise UsageError(f"entity-bytes goes with dag-scope=entity, not with {scope!r}")
    return Selection(Scope(scope), entity_bytes, duplicates == "y", order == "dfs")


def parse_entity_bytes(text: str) -> ByteRange:
    """From `FIRST:LAST` or `FIRST:*`. Raises UsageError, also for a range that is empty whatever the size."""
    found = _RANGE.fullmatch(text)
    if found is None:
        raise UsageError(f"entity-bytes {text[:60]!r} is not FIRST:LAST or FIRST:*")
    first, last = int(found[1]), None if found[2] == "*" else int(found[2])
    if max(abs(first), abs(last or 0)) > MAX_OFFSET:
        raise UsageError(f"entity-bytes {text!r} goes beyond {MAX_OFFSET}")
    if last is not None and (first < 0) == (last < 0) and last < first:
        raise UsageError(f"entity-bytes {text!r} ends before it begins")
    return ByteRange(first, last)


def _word(query: Mapping[str, str], key: str, accept: Mapping[str, str], parameter: str, default: str) -> str:
    return query.get(key) or accept.get(parameter) or default


def _choose(what: str, word: str, known: tuple[str, ...]) -> str:
    if word not in known:
        raise UsageError(f"{what} {word[:60]!r} is not known; expected {' or '.join(known)}")
    return word
