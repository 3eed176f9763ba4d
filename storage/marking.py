"""Marking: which blocks the pins keep. Iterative, in bounded memory, each block once.

Marks are exact: up to MARKS_IN_MEMORY of them are held in memory, the others in a scratch LevelDB. A walk that finds
more blocks ahead than it can hold puts them off in the same place.

A block that can't be read, or isn't here though it has links, hides what lies below it. Nobody then knows what belongs
to the pin, so nothing may be collected: `Marked.hidden` says so.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, Rejection
from mpisa.primitives.links import LINKING_CODECS, links_of
from storage.blockstore import BlockStore, is_inline
from storage.leveldb import Database
from storage.pins import Pin, PinKind

MARKS_IN_MEMORY = 1 << 18
"""About 30 MiB."""

MAX_AHEAD = 1 << 16
PUT_OFF_AT_ONCE = 1024
MAX_REPORTED_MISSING = 1000

_MARK, _PUT_OFF = b"m", b"d"
_NODE = b"n"


class Marks:
    """Names that were marked; a context manager. For one thread."""

    def __init__(self, scratch: Path | None) -> None:
        self._scratch = scratch
        self._temporary: Path | None = None
        self._recent: set[bytes] = set()
        self._database: Database | None = None
        self.blocks = 0
        """How many blocks are marked, nodes that were walked not counted again."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._database is not None:
            self._database.close()
            shutil.rmtree(self._database.path, ignore_errors=True)
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def __contains__(self, name: bytes) -> bool:
        if name in self._recent:
            return True
        return self._database is not None and self._database.get(_MARK + name) is not None

    def add(self, name: bytes) -> bool:
        """Mark a name; False when it was marked before."""
        if name in self:
            return False
        self._recent.add(name)
        self.blocks += not name.startswith(_NODE)
        if len(self._recent) >= MARKS_IN_MEMORY:
            self._spilled().write(((_MARK + known, b"") for known in sorted(self._recent)), sync=False)
            self._recent.clear()
        return True

    def put_off(self, cids: Iterable[Cid]) -> None:
        """Keep CIDs for `take_up`."""
        self._spilled().write(((_PUT_OFF + cid.to_bytes(), b"") for cid in cids), sync=False)

    def take_up(self) -> list[Cid]:
        """Some of the CIDs that were put off, which are put off no more."""
        if self._database is None:
            return []
        keys = [key for key, _ in islice(self._database.scan(_PUT_OFF), PUT_OFF_AT_ONCE)]
        self._database.write(((key, None) for key in keys), sync=False)
        return [Cid.from_bytes(key[1:]) for key in keys]

    def _spilled(self) -> Database:
        if self._database is None:
            path = self._scratch
            if path is None:
                self._temporary = Path(tempfile.mkdtemp(prefix="mpisa-marks-"))
                path = self._temporary / "marks"
            with suppress(FileNotFoundError):
                shutil.rmtree(path)  # what a crash left
            self._database = Database(path, "marks")
        return self._database


@dataclass(slots=True)
class Marked:
    """What marking met: blocks that pins name and that aren't here; `hidden` counts those with unknown links."""

    missing: list[Cid] = field(default_factory=list)
    missing_count: int = 0
    hidden: int = 0

    def miss(self, cid: Cid, *, hides: bool) -> None:
        """Count a block that should be here, or can't be read as what it claims to be."""
        self.missing_count += 1
        self.hidden += hides
        if len(self.missing) < MAX_REPORTED_MISSING:
            self.missing.append(cid)


def mark(store: BlockStore, pins: Iterable[Pin], marks: Marks, marked: Marked, tick: Callable[[], None]) -> None:
    """Mark all that the pins keep. `tick` is called for each block. Raises StoreDamaged where one can't be read."""
    for pin in pins:
        if pin.kind is PinKind.DIRECT:
            _leaf(store, pin.cid, marks, marked)
            tick()
        else:
            for _ in _walk(store, pin.cid, marks, marked):
                tick()


def _walk(store: BlockStore, root: Cid, marks: Marks, marked: Marked) -> Iterator[Cid]:
    ahead = [root]
    while ahead or (ahead := marks.take_up()):
        cid = ahead.pop()
        yield cid
        if cid.codec not in LINKING_CODECS:
            _leaf(store, cid, marks, marked)
            continue
        if not marks.add(_NODE + cid.to_bytes()):
            continue
        if not is_inline(cid):
            marks.add(cid.multihash)
        children = [child for child in _links(store, cid, marked) if _NODE + child.to_bytes() not in marks]
        room = MAX_AHEAD - len(ahead)
        ahead += reversed(children[:room])
        if len(children) > room:
            marks.put_off(children[room:])


def _links(store: BlockStore, cid: Cid, marked: Marked) -> list[Cid]:
    """What a node links to and what could be stored here."""
    try:
        found = links_of(cid, store.get(cid))
    except NotFound:
        marked.miss(cid, hides=True)
        return []
    except Rejection:  # malformed, or more than anything here follows
        marked.miss(cid, hides=True)
        return []
    return [child for child in found if _is_supported(child)]


def _leaf(store: BlockStore, cid: Cid, marks: Marks, marked: Marked) -> None:
    if not is_inline(cid) and marks.add(cid.multihash) and not store.has(cid):
        marked.miss(cid, hides=False)


def _is_supported(cid: Cid) -> bool:
    try:
        cid.require_supported()
    except Rejection:
        return False
    return True
