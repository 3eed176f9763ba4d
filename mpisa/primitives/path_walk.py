"""From a root along the names of a path to what they lead to, block by block: one walk for readers and for verifiers.

`walk_path` is a generator: it yields the CID that it has to see next and is sent that block, so whoever drives it reads
from a store, from the network, or from a CAR stream that must hold exactly these blocks. Names of UnixFS directories
(sharded ones too), keys and indices of DAG-CBOR and DAG-JSON and names of DAG-PB links are followed across blocks.

A symlink in the middle of a path is followed, within the directories that the path came through: one that is absolute
or climbs out of them leads nowhere. The last name is never followed: what it names is the symlink. Names of a path are
names: ".." is none, except in a symlink's target.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mpisa.primitives.car_stream import MAX_SHARD_DEPTH, MAX_TREE_DEPTH
from mpisa.primitives.cid import DAG_CBOR, DAG_JSON, DAG_PB, IDENTITY, Cid
from mpisa.primitives.dag_json import decode_dag_json
from mpisa.primitives.dag_pb import decode_node
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, UsageError
from mpisa.primitives.ipld import Link, Value, decode_dag_cbor
from mpisa.primitives.links import LINKING_CODECS
from mpisa.primitives.unixfs_directory import name_hash
from mpisa.primitives.unixfs_tree import Content, DirectoryContent, Entry, ShardContent, SymlinkContent, read_block

MAX_SYMLINKS: Final = 32
MAX_STEPS: Final = 2048
"""Names followed for one path, those of symlinks' targets included."""

Walk = Generator[Cid, bytes, "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a path leads: the CID, the CID after each name from the root on, and what is left within a document.

    `remainder`: names that lead to a value inside the DAG-CBOR or DAG-JSON block `cid`; `value`: that value.
    """

    cid: Cid
    roots: tuple[Cid, ...]
    remainder: tuple[str, ...] = ()
    value: Value = None


def walk_path(root: Cid, parts: Sequence[str], *, follow_symlinks: bool = True) -> Walk:
    """Walk the names; the target's own block is not asked for.

    Raises NotFound that names the part, UsageError for a path of more than MAX_TREE_DEPTH names, Rejection for blocks
    that make no sense and for too many symlinks.
    """
    if len(parts) > MAX_TREE_DEPTH:
        raise UsageError(f"a path of {len(parts)} parts, at most {MAX_TREE_DEPTH}")
    state = _State(root, root, [(part, False) for part in reversed(parts)], [root])
    while state.pending:
        state.count_step()
        part, of_symlink = state.pending[-1]
        if of_symlink and part == "..":
            state.pending.pop()
            state.climb()
            continue
        if state.current.codec not in LINKING_CODECS:
            raise NotFound(f"{state.current} is not a directory, so there is no {part!r} in it")
        block = state.current.digest if state.current.digest_code == IDENTITY else (yield state.current)
        if state.current.codec in (DAG_CBOR, DAG_JSON):
            target = _through_document(state, block)
            if target is not None:
                return target
            continue
        content = _content_of(state.current, block)
        if isinstance(content, SymlinkContent) and follow_symlinks:
            state.follow(content)
            continue
        found = yield from _child(state, content, block, part)
        state.enter(part, found)
    return Target(state.current, tuple(state.roots))


@dataclass(slots=True)
class _State:
    """Where the walk is; `pending`: names still to follow, the next one last, and whether a symlink's target says so.

    `above`: directories that the walk came through, from the root of the UnixFS tree on, without the current one.
    """

    root: Cid
    current: Cid
    pending: list[tuple[str, bool]]
    roots: list[Cid]
    above: list[Cid] = field(default_factory=list)
    trail: list[str] = field(default_factory=list)
    steps: int = 0
    symlinks: int = 0

    def count_step(self) -> None:
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Rejection(RejectionReason.TOO_DEEP, f"a path below {self.root} takes more than {MAX_STEPS} steps")

    def enter(self, part: str, cid: Cid) -> None:
        self.pending.pop()
        self.above.append(self.current)
        self.trail.append(part)
        self.current = cid.require_supported()
        self.roots.append(cid)

    def climb(self) -> None:
        if not self.above:
            raise NotFound(f"a symlink in {self.shown()} leads out of the tree")
        self.current = self.above.pop()
        self.trail.pop()

    def follow(self, symlink: SymlinkContent) -> None:
        self.symlinks += 1
        if self.symlinks > MAX_SYMLINKS:
            raise Rejection(
                RejectionReason.TOO_DEEP, f"a path below {self.root} goes through more than {MAX_SYMLINKS} symlinks"
            )
        if symlink.target.startswith("/") or not self.above:
            raise NotFound(f"the symlink {self.shown()} leads out of the tree")
        names = [name for name in symlink.target.split("/") if name not in ("", ".")]
        self.pending += [(name, True) for name in reversed(names)]
        self.climb()

    def shown(self) -> str:
        return "/".join([str(self.root), *self.trail])


def _through_document(state: _State, block: bytes) -> Target | None:
    """Follow names within one document, up to a link (None: the walk goes on there) or to the end of the path."""
    decode = decode_dag_cbor if state.current.codec == DAG_CBOR else decode_dag_json
    try:
        value: Value = decode(block)
    except Rejection as error:
        raise Rejection(error.reason, f"block {state.current}: {error.detail}") from None
    used: list[str] = []
    while True:
        if isinstance(value, Link):
            state.current = value.cid.require_supported()
            state.roots.append(value.cid)
            state.above.clear()
            return None
        if not state.pending:
            return Target(state.current, tuple(state.roots), tuple(used), value)
        part, _ = state.pending.pop()
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isascii() and part.isdecimal() and str(int(part[:9])) == part:
            if int(part) >= len(value):
                raise NotFound(f"there is no {part!r} in {state.shown()}")
            value = value[int(part)]
        else:
            raise NotFound(f"there is no {part!r} in {state.shown()}")
        used.append(part)
        state.trail.append(part)


def _content_of(cid: Cid, block: bytes) -> Content | None:
    """UnixFS content; None for another codec, and for a DAG-PB node that isn't UnixFS at all."""
    if cid.codec != DAG_PB:
        return None
    try:
        return read_block(cid, block)
    except Rejection as error:
        if decode_node(block).data is not None:
            raise Rejection(error.reason, f"block {cid}: {error.detail}") from None
        return None


def _child(state: _State, content: Content | None, block: bytes, part: str) -> Generator[Cid, bytes, Cid]:
    """The entry of that name; of a sharded directory only the shards on its way are asked for."""
    directory = state.current
    if content is None and directory.codec == DAG_PB:
        named = (link.hash for link in decode_node(block).links if link.name == part)
        found = next(named, None)
        if found is None:
            raise _missing(state, part)
        return Cid.from_bytes(found)
    current = directory
    slots = name_hash(part)
    for depth in range(MAX_SHARD_DEPTH):
        if isinstance(content, DirectoryContent) and depth == 0:
            return _named(state, content, part)
        if not isinstance(content, ShardContent):
            if depth:
                raise Rejection(RejectionReason.MALFORMED, f"block {current}: expected a directory shard")
            raise NotFound(f"{directory} is not a directory, so there is no {part!r} in it")
        if slots[depth] not in content.slots:
            raise _missing(state, part)
        item = content.items[content.slots.index(slots[depth])]
        if isinstance(item, Entry):
            if item.name != part:
                raise _missing(state, part)
            return item.cid
        current = item.cid
        block = current.digest if current.digest_code == IDENTITY else (yield current)
        content = _content_of(current, block)
    raise Rejection(RejectionReason.TOO_DEEP, f"{directory} is a directory with more than {MAX_SHARD_DEPTH} levels")


def _named(state: _State, content: DirectoryContent, part: str) -> Cid:
    for entry in content.entries:
        if entry.name == part:
            return entry.cid
    raise _missing(state, part)


def _missing(state: _State, part: str) -> NotFound:
    return NotFound(f"there is no {part!r} in {state.shown()}")
