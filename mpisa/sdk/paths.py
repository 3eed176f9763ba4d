"""What people write for content: a CID, and perhaps a path below it; followed here, every block on the way hashed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import UsageError
from mpisa.primitives.path_walk import walk_path
from mpisa.sdk.blocks import NodeBlocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpisa.sdk.transport import Transport


def split(text: str) -> tuple[Cid, tuple[str, ...]]:
    """`CID`, `CID/a/b`, `/ipfs/CID/a/b` or `ipfs://CID/a%20b`. Raises Rejection(BAD_CID), UsageError for `..`."""
    is_url = text.startswith("ipfs://")
    plain = text.removeprefix("ipfs://").removeprefix("/ipfs/")
    first, *rest = plain.split("/")
    parts = tuple(unquote(part) if is_url else part for part in rest if part)
    if any(part in (".", "..") for part in parts):
        raise UsageError(f"{text!r}: a path goes down only", hint="leave out '.' and '..'")
    return Cid.parse(first).require_supported(), parts


async def resolve(transport: Transport, text: str) -> Cid:
    """The CID that a path leads to. Raises NotFound that names the part, UsageError for one into a document."""
    root, parts = split(text)
    if not parts:
        return root
    async with NodeBlocks(transport) as blocks:
        return await follow(blocks, root, parts)


async def follow(blocks: NodeBlocks, root: Cid, parts: Sequence[str]) -> Cid:
    """As resolve, with blocks from there."""
    walk = walk_path(root, parts)
    try:
        wanted = next(walk)
        while True:
            wanted = walk.send(await blocks.get(wanted))
    except StopIteration as end:
        target = end.value
    if target.remainder:
        raise UsageError(
            f"{'/'.join(parts)} leads into the document {target.cid}, to no block of its own",
            hint=f"get the document: mpisa get {target.cid}",
        )
    found: Cid = target.cid
    return found.require_supported()
