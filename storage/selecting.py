"""The blocks that a partial DAG has: those of the path, then what the scope asks for, depth first.

The order and the choice are what `RangeVerifier` and `CarStreamVerifier` expect, and what the trustless gateway's
specification names. Blocks within identity CIDs are left out.
"""

from collections.abc import Iterator

from mpisa.primitives.car_stream import MAX_PENDING_LINKS, MAX_SHARD_DEPTH
from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.file_range import FileRange
from mpisa.primitives.selection import WHOLE, ByteRange, Scope, Selection
from mpisa.primitives.unixfs_tree import Content, Entry, FileContent, ShardContent, read_block
from storage.paths import Resolved
from storage.reader import DagReader

Blocks = Iterator[tuple[Cid, bytes]]


def select(reader: DagReader, resolved: Resolved, selection: Selection, *, max_bytes: int | None = None) -> Blocks:
    """The blocks, one by one; without duplicates each once. `max_bytes` bounds all of them together.

    Raises Rejection(TOO_LARGE) where the bound is met, and what the reader raises.
    """
    seen: set[bytes] = set()
    size = 0
    for cid, block in _all(reader, resolved, selection):
        if cid.digest_code == IDENTITY:
            continue
        if not selection.duplicates:
            if cid.to_bytes() in seen:
                continue
            if len(seen) == MAX_PENDING_LINKS:
                raise Rejection(RejectionReason.TOO_LARGE, f"more than {MAX_PENDING_LINKS} different blocks in one DAG")
            seen.add(cid.to_bytes())
        size += len(block)
        if max_bytes is not None and size > max_bytes:
            raise Rejection(RejectionReason.TOO_LARGE, f"the DAG of {resolved.cid} has more than {max_bytes} bytes")
        yield cid, block


def _all(reader: DagReader, resolved: Resolved, selection: Selection) -> Blocks:
    for cid in resolved.path_blocks:
        yield cid, reader.block(cid)
    if selection.scope is Scope.ALL:
        yield from reader.walk(resolved.cid, duplicates=selection.duplicates)
        return
    block = reader.block(resolved.cid)
    yield resolved.cid, block
    if selection.scope is Scope.BLOCK:
        return
    content = _unixfs(resolved.cid, block)
    if isinstance(content, FileContent):
        yield from _file(reader, content, selection.entity_bytes or WHOLE)
    elif isinstance(content, ShardContent):
        yield from _shards(reader, content)


def _unixfs(cid: Cid, block: bytes) -> Content | None:
    """What a reader of files and directories sees; None where there is none: then the block is all of the entity."""
    if cid.codec not in (RAW, DAG_PB):
        return None
    try:
        return read_block(cid, block)
    except Rejection:
        return None


def _file(reader: DagReader, content: FileContent, asked: ByteRange) -> Blocks:
    start, end = asked.clamp(content.size)
    blocks = FileRange(content, start, end, every_part=(start, end) == (0, content.size))
    while (cid := blocks.wanted) is not None:
        reader.tell(blocks.ahead())
        block = reader.block(cid)
        blocks.take(block)
        yield cid, block


def _shards(reader: DagReader, root: ShardContent) -> Blocks:
    stack = [(item.cid, 1) for item in reversed(root.items) if not isinstance(item, Entry)]
    while stack:
        cid, depth = stack.pop()
        block = reader.block(cid)
        content = _unixfs(cid, block)
        if not isinstance(content, ShardContent):
            raise Rejection(RejectionReason.MALFORMED, f"block {cid}: expected a directory shard")
        if depth == MAX_SHARD_DEPTH:
            raise Rejection(RejectionReason.TOO_DEEP, f"block {cid}: directory with more than {depth} levels")
        yield cid, block
        stack += [(item.cid, depth + 1) for item in reversed(content.items) if not isinstance(item, Entry)]
