"""CARs to and from files: every block is hashed here on the way, in either direction.

An export is checked link by link: it holds the blocks of the DAG depth first, each as often as it is linked, whatever
their codec. An import may hold anything; what the node says that it took must be what was sent.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from mpisa.primitives.car_stream import MAX_PENDING_LINKS, CarFrames, FileBytes, FileEnded, FileStarted, TreeEnded
from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.errors import IntegrityError, Rejection, UsageError
from mpisa.primitives.links import links_of
from mpisa.primitives.range_stream import RangeEvent, RangeVerifier
from mpisa.primitives.selection import ByteRange, Scope
from mpisa.sdk import models
from mpisa.sdk.blocks import MIN_SILENCE_S
from mpisa.sdk.connection import segment
from mpisa.sdk.paths import resolve
from mpisa.sdk.ranges import parse_range
from mpisa.sdk.sinks import PathSink, StreamSink
from mpisa.sdk.upload import CAR_TYPE, STORE_SILENCE_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpisa.sdk.async_client import Progress
    from mpisa.sdk.transport import Transport

CHUNK_BYTES: Final = 1 << 20


class DagVerifier:
    """Proves that a CAR holds a whole DAG. `feed`, then `finish`. Raises IntegrityError for anything else."""

    def __init__(self, root: Cid) -> None:
        self._root = root
        self._frames = CarFrames()
        self._expected = [root]
        self.blocks = 0

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream."""
        for cid, block in self._frames.feed(data):
            self._check_roots()
            if cid.digest_code == IDENTITY:
                continue
            self._take_inline()
            wanted = self._expected.pop() if self._expected else None
            if wanted is None or (cid.codec, cid.multihash) != (wanted.codec, wanted.multihash):
                raise IntegrityError(f"the CAR has block {cid} where {wanted or 'its end'} must come")
            self.blocks += 1
            self._follow(cid, block)

    def finish(self) -> None:
        """Declare the end."""
        self._frames.finish()
        self._check_roots()
        self._take_inline()
        if self._expected:
            raise IntegrityError(f"the CAR of {self._root} ends early: {self._expected[-1]} is missing")

    def _check_roots(self) -> None:
        if self._frames.roots is not None and self._frames.roots[:1] != (self._root,):
            raise IntegrityError(f"the CAR names another root than {self._root}")

    def _take_inline(self) -> None:
        while self._expected and self._expected[-1].digest_code == IDENTITY:
            cid = self._expected.pop()
            self._follow(cid, cid.digest)

    def _follow(self, cid: Cid, block: bytes) -> None:
        try:
            following = [child.require_supported() for child in links_of(cid, block)]
        except Rejection as error:
            raise IntegrityError(error.detail) from None
        if len(self._expected) + len(following) > MAX_PENDING_LINKS:
            raise IntegrityError(f"more than {MAX_PENDING_LINKS} blocks are linked and still to come")
        self._expected += reversed(following)


class BlockVerifier:
    """Proves that a CAR holds its root's block and nothing else, as DagVerifier does for a DAG."""

    def __init__(self, root: Cid) -> None:
        self._root = root
        self._frames = CarFrames()
        self.blocks = 0

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream."""
        for cid, _ in self._frames.feed(data):
            if self.blocks or (cid.codec, cid.multihash) != (self._root.codec, self._root.multihash):
                raise IntegrityError(f"the CAR has block {cid}, expected {self._root} alone")
            self.blocks += 1

    def finish(self) -> None:
        """Declare the end."""
        self._frames.finish()
        if not self.blocks and self._root.digest_code != IDENTITY:
            raise IntegrityError(f"the CAR ends without {self._root}")


class EntityVerifier:
    """Proves that a CAR holds what it takes to read a file, a range of it, or to list a directory."""

    def __init__(self, root: Cid, span: ByteRange | None) -> None:
        self._verifier = RangeVerifier(root, (), span)
        self.blocks = 0

    def feed(self, data: bytes) -> None:
        """Take bytes of the stream."""
        self._count(self._verifier.feed(data))

    def finish(self) -> None:
        """Declare the end."""
        self._count(self._verifier.finish())

    def _count(self, events: list[RangeEvent]) -> None:
        for event in events:
            if isinstance(event, TreeEnded):
                self.blocks = event.blocks


Verifier = DagVerifier | BlockVerifier | EntityVerifier


def _part(root: Cid, scope: Scope, span: ByteRange | None) -> tuple[Verifier, dict[str, str]]:
    """What proves such a part of a DAG, and the query that asks for it. Raises UsageError for what isn't one."""
    if span is not None and scope is not Scope.ENTITY:
        raise UsageError("a range goes with the scope entity", hint="--scope entity --range 0-1023")
    if scope is Scope.ALL:
        return DagVerifier(root), {}
    if scope is Scope.BLOCK or root.codec not in (RAW, DAG_PB):
        return BlockVerifier(root), {"dag-scope": "block"}
    return EntityVerifier(root, span), {"dag-scope": "entity"} | ({} if span is None else {"entity-bytes": str(span)})


async def export_car(
    transport: Transport,
    what: str,
    output: str | Path | BinaryIO,
    *,
    overwrite: bool = False,
    scope: str = "all",
    span: str | None = None,
    progress: Progress | None = None,
) -> models.CarFile:
    """Write the CAR of a DAG to a path, which appears when all of it was proven, or to a stream.

    `scope`: all of it, the entity (a file, a directory's own blocks; `span`: a range of a file) or the block alone.
    """
    if scope not in tuple(Scope):
        raise UsageError(f"scope {scope[:40]!r}: expected {', '.join(Scope)}")
    root = await resolve(transport, what)
    verifier, wanted = _part(root, Scope(scope), None if span is None else parse_range(span))
    sink: PathSink | StreamSink
    if isinstance(output, (str, Path)):
        sink = await asyncio.to_thread(PathSink, output, root, overwrite=overwrite, label=f"-car-{scope}")
        sink.forget()
    else:
        sink = StreamSink(output)
    size = 0
    try:
        sink.take(FileStarted((), 0))
        async with transport.stream(
            "GET",
            f"/ipfs/{segment(str(root))}",
            query={"format": "car"} | wanted,
            headers={"Accept": CAR_TYPE},
            silence=max(MIN_SILENCE_S, transport.timeout),
        ) as answer:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                await asyncio.to_thread(_write, verifier, sink, chunk)
                size += len(chunk)
                if progress is not None:
                    progress(size, None)
        verifier.finish()
        sink.take(FileEnded(()))
        await asyncio.to_thread(sink.finish)
    except BaseException:
        await asyncio.shield(asyncio.to_thread(sink.discard))
        raise
    path = None if sink.path is None else str(sink.path)
    return models.CarFile(cid=str(root), path=path, size=size, blocks=verifier.blocks)


def _write(verifier: Verifier, sink: PathSink | StreamSink, chunk: bytes) -> None:
    verifier.feed(chunk)
    sink.take(FileBytes(chunk))


async def import_car(
    transport: Transport, source: str | Path | BinaryIO, *, progress: Progress | None = None
) -> models.CarResult:
    """Send a CAR; every block is hashed here too. Raises IntegrityError for one that is cut or lies."""
    stream, total = await asyncio.to_thread(_open, source)
    frames = _Counted(stream, total, progress)
    try:
        taken = await transport.call(
            models.CarResult,
            "POST",
            "/v1/blobs/car",
            data=frames.chunks(),
            headers={"Content-Type": CAR_TYPE},
            silence=max(STORE_SILENCE_S, transport.timeout),
        )
    except (Rejection, OSError):
        if frames.failure is not None:
            raise frames.failure from None
        raise
    finally:
        if stream is not source:
            stream.close()
    if frames.failure is not None:
        raise frames.failure
    if (taken.blocks, taken.roots) != (frames.blocks, frames.roots):
        raise IntegrityError(f"the node took {taken.blocks} blocks of the {frames.blocks} that were sent")
    return taken


def _open(source: str | Path | BinaryIO) -> tuple[BinaryIO, int | None]:
    """The stream, and its length where it is a file's."""
    if not isinstance(source, (str, Path)):
        return source, None
    stream = Path(source).open("rb", 0)  # noqa: SIM115 - closed by who asked
    return stream, os.fstat(stream.fileno()).st_size


class _Counted:
    """A CAR on its way out: hashed and counted."""

    def __init__(self, stream: BinaryIO, total: int | None, progress: Progress | None) -> None:
        self._stream = stream
        self._total = total
        self._progress = progress
        self._frames = CarFrames()
        self.blocks = 0
        self.failure: IntegrityError | None = None

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(str(root) for root in self._frames.roots or ())

    async def chunks(self) -> AsyncIterator[bytes]:
        done = 0
        try:
            while chunk := await asyncio.to_thread(self._stream.read, CHUNK_BYTES):
                self.blocks += len(await asyncio.to_thread(self._frames.feed, chunk))
                yield chunk
                done += len(chunk)
                if self._progress is not None:
                    self._progress(done, self._total)
            self._frames.finish()
        except IntegrityError as error:
            self.failure = error  # what was sent so far is cut off: the node refuses it too
