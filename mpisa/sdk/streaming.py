"""A large file that the node knows nothing of: sent as one stream, hashed on the way, and the roots compared.

That is half the work of sending blocks. Whether it is the way to go is told by the file's first leaves: a node that has
none of them has nothing of an earlier put. What breaks off here goes on block by block.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, BinaryIO, Final

from mpisa.primitives.errors import IntegrityError
from mpisa.primitives.unixfs_layout import BalancedBuilder, make_leaf
from mpisa.sdk import models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mpisa.primitives.cid import Cid
    from mpisa.primitives.profiles import Profile
    from mpisa.sdk.async_client import Progress
    from mpisa.sdk.transport import Transport

WORTH_BYTES: Final = 64 << 20
"""Smaller files go block by block, known or not."""
LOOK_LEAVES: Final = 4
PIECE_BYTES: Final = 1 << 20


async def is_unknown(transport: Transport, path: Path, profile: Profile) -> bool:
    """Whether the node has none of the file's first leaves."""
    cids = await asyncio.to_thread(_first_leaves, path, profile)
    body = {"cids": [str(cid) for cid in cids]}
    answer = await transport.call(models.MissingBlocks, "POST", "/v1/blobs/missing", body=body)
    return len(answer.missing) == len(cids)


def _first_leaves(path: Path, profile: Profile) -> list[Cid]:
    with path.open("rb", 0) as stream:
        chunks = [stream.read(profile.chunk_size) for _ in range(LOOK_LEAVES)]
    return [make_leaf(chunk, profile).node.cid for chunk in chunks if chunk]


async def send(
    transport: Transport, path: Path, profile: Profile, progress: Progress | None, silence: float
) -> models.PutResult:
    """Send the file. Raises IntegrityError when it changes meanwhile, or when the node's root is another one."""
    with await asyncio.to_thread(path.open, "rb", 0) as stream:
        hashing = _Hashing(stream, profile)
        stored = await transport.call(
            models.PutResult,
            "POST",
            "/v1/blobs",
            query={"profile": profile.name},
            data=_pieces(hashing, progress),
            headers={"Content-Type": "application/octet-stream"},
            silence=silence,
        )
        root = await asyncio.to_thread(hashing.finish, path)
    if stored.cid != str(root):
        raise IntegrityError(
            f"the node stored {path} as {stored.cid}, but it is {root}", hint="put it again; is the node damaged?"
        )
    return models.PutResult(cid=stored.cid, size=stored.size, blocks=stored.blocks, sent=hashing.size)


async def _pieces(hashing: _Hashing, progress: Progress | None) -> AsyncIterator[bytes]:
    """The file's bytes; the next piece is read and hashed while one is sent."""
    coming = asyncio.ensure_future(asyncio.to_thread(hashing.next))
    done = 0
    try:
        while piece := await coming:
            coming = asyncio.ensure_future(asyncio.to_thread(hashing.next))
            yield piece
            done += len(piece)
            if progress is not None:
                progress(done, max(hashing.total, done))
    finally:
        await asyncio.wait((coming,))


class _Hashing:
    """Reads a file piece by piece and builds its DAG; belongs to one thread at a time."""

    def __init__(self, stream: BinaryIO, profile: Profile) -> None:
        self._stream = stream
        self._profile = profile
        self._before = os.fstat(stream.fileno())
        self._builder = BalancedBuilder(profile, lambda *_: None)
        self._piece = max(PIECE_BYTES // profile.chunk_size, 1) * profile.chunk_size
        self.total = self._before.st_size
        self.size = 0

    def next(self) -> bytes:
        """The next piece; empty at the end."""
        piece = self._stream.read(self._piece) or b""
        while 0 < len(piece) < self._piece and (more := self._stream.read(self._piece - len(piece))):
            piece += more
        size = self._profile.chunk_size
        for start in range(0, len(piece), size):
            chunk = piece if len(piece) <= size else piece[start : start + size]
            self._builder.add(make_leaf(chunk, self._profile).node)
        self.size += len(piece)
        return piece

    def finish(self, path: Path) -> Cid:
        """The root. Raises IntegrityError when the file changed meanwhile."""
        after = os.fstat(self._stream.fileno())
        same = (self._before.st_size, self._before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if not same or self.size != after.st_size:
            raise IntegrityError(f"{path} changed while it was read", hint="try again when nobody writes to it")
        return self._builder.finish().cid
