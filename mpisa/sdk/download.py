"""Fetching a file or directory: every block hashed here; it appears whole or not at all, and goes on where it stopped.

What is new comes as one CAR stream. When something of an earlier download is left, or the connection broke, the tree is
walked block by block instead: a leaf that lies on this disk is hashed, a missing one fetched. Both feed the same
verifier, which takes only the block that comes next. A file object gets a single file as it comes.
"""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from mpisa.primitives.car_stream import CarStreamVerifier, Event, FileBytes, FileStarted, TreeEnded, Upcoming
from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.dag_pb import PBNode, encode_node
from mpisa.primitives.errors import (
    DiskFull,
    MpisaError,
    NotFound,
    NotReady,
    TimedOut,
    Unreachable,
    UsageError,
)
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs
from mpisa.sdk import models
from mpisa.sdk.blocks import MAX_BLOCK_BYTES, MIN_SILENCE_S, NodeBlocks
from mpisa.sdk.connection import segment
from mpisa.sdk.paths import resolve
from mpisa.sdk.ranges import get_range, parse_range
from mpisa.sdk.sinks import PathSink, Sink, StreamSink
from mpisa.sdk.tar_sink import TarSink
from mpisa.sdk.transport import ConnectionCut

if TYPE_CHECKING:
    from mpisa.sdk.async_client import Progress
    from mpisa.sdk.transport import Transport

CAR_TYPE: Final = "application/vnd.ipld.car"
CHUNK_BYTES: Final = 1 << 20
LOOK_AHEAD: Final = 32
MAX_CUTS: Final = 5
"""How often one download goes on by itself after its connection broke."""
CUT_PAUSE_S: Final = 0.5
PASSING: Final = (ConnectionCut, Unreachable, TimedOut, NotReady, NotFound, DiskFull, OSError, asyncio.CancelledError)
"""After these what was written is kept: the next download goes on there."""


async def get(
    transport: Transport,
    what: str,
    output: str | Path | BinaryIO,
    *,
    overwrite: bool = False,
    span: str | None = None,
    tar: str | None = None,
    discard: bool = False,
    progress: Progress | None = None,
) -> models.GetResult:
    """Fetch `what` (a CID, or a path below one) to a path or a binary file object.

    `span`: only this range of a file (see `parse_range`); `tar`: as an archive whose top is called so. `discard`: keep
    nothing of an earlier download. Returns once every byte was hashed here.
    """
    if span is not None and tar is not None:
        raise UsageError("a range and an archive exclude each other", hint="leave out --range or --tar")
    wanted = None if span is None else parse_range(span)
    root = await resolve(transport, what)
    if wanted is None and tar is None and isinstance(output, (str, Path)):
        return await _get_path(transport, root, output, overwrite, discard, progress)
    sink = await asyncio.to_thread(_single, output, root, overwrite, f"-{span or 'tar'}")
    outer: Sink = sink
    try:
        if wanted is not None:
            size, blocks = await get_range(transport, root, wanted, sink, progress)
        else:
            outer = sink if tar is None else TarSink(sink, tar)
            work = _Download(root, outer)
            await _receive(transport, root, work, progress)
            await asyncio.to_thread(work.end)
            size, blocks = work.size, work.blocks
        await asyncio.to_thread(outer.finish)
    except OSError as error:
        await asyncio.to_thread(sink.discard)
        raise _disk_error(error, sink.path) from error
    except BaseException:
        await asyncio.shield(asyncio.to_thread(sink.discard))
        raise
    path = None if sink.path is None else str(sink.path)
    return models.GetResult(cid=str(root), path=path, size=size, blocks=blocks, files=outer.files)


def _single(output: str | Path | BinaryIO, root: Cid, overwrite: bool, label: str) -> PathSink | StreamSink:
    if not isinstance(output, (str, Path)):
        return StreamSink(output)
    sink = PathSink(output, root, overwrite=overwrite, label=label)
    sink.forget()
    return sink


async def _get_path(
    transport: Transport, root: Cid, output: str | Path, overwrite: bool, discard: bool, progress: Progress | None
) -> models.GetResult:
    """The whole of a tree to a path; goes on with what earlier ones left, and by itself when the connection breaks."""
    for attempt in range(MAX_CUTS + 1):
        sink = await asyncio.to_thread(PathSink, output, root, overwrite=overwrite)
        if discard and attempt == 0:
            await asyncio.to_thread(sink.forget)
        work = _Download(root, sink)
        try:
            if sink.resumes:
                await _continue(transport, work, sink, progress)
            else:
                await _receive(transport, root, work, progress)
            await asyncio.to_thread(work.end)
            await asyncio.to_thread(sink.finish)
        except PASSING as error:
            kept = await asyncio.shield(asyncio.to_thread(sink.keep))
            if isinstance(error, ConnectionCut) and attempt < MAX_CUTS:
                await asyncio.sleep(CUT_PAUSE_S * (attempt + 1))
                continue
            told = _with_hint(error, sink.path, kept)
            if told is error:
                raise
            raise told from error
        except BaseException:
            await asyncio.shield(asyncio.to_thread(sink.discard))
            raise
        return models.GetResult(
            cid=str(root),
            path=str(sink.path),
            size=work.size,
            blocks=work.blocks,
            files=sink.files,
            reused=work.reused,
        )
    raise AssertionError("the loop returns or raises")


async def _receive(transport: Transport, root: Cid, work: _Download, progress: Progress | None) -> None:
    silence = max(MIN_SILENCE_S, transport.timeout)
    writing: asyncio.Future[None] | None = None
    path = f"/ipfs/{segment(str(root))}"
    async with transport.stream(
        "GET", path, query={"format": "car"}, headers={"Accept": CAR_TYPE}, silence=silence
    ) as answer:
        try:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                if writing is not None:
                    await writing
                    _report(work, progress)
                writing = asyncio.ensure_future(asyncio.to_thread(work.feed, chunk))
        finally:
            if writing is not None:
                await asyncio.shield(writing)
    _report(work, progress)


async def _continue(transport: Transport, work: _Download, sink: PathSink, progress: Progress | None) -> None:
    """Walk the tree; leaves that are here and hash right aren't fetched again."""
    async with NodeBlocks(transport) as blocks:
        while work.next is not None:
            here, ahead = await asyncio.to_thread(_from_disk, work, sink)
            blocks.expect(ahead)
            if here is None and work.next is not None:
                here = await blocks.get(work.next)
                await asyncio.to_thread(work.take, here)
            _report(work, progress)


def _from_disk(work: _Download, sink: PathSink) -> tuple[bytes | None, list[Cid]]:
    """Take the blocks that are here, up to CHUNK_BYTES of them; the last of them, and what is likely to be missing."""
    taken: bytes | None = None
    until = work.reused + CHUNK_BYTES
    while (coming := work.coming(1)) and work.reused < until:
        block = _kept_block(coming[0], sink)
        if block is None:
            break
        sink.is_kept = coming[0].cid.digest_code != IDENTITY
        try:
            work.take(block)
        finally:
            sink.is_kept = False
        work.reused += len(block)
        taken = block
    if taken is not None:
        return taken, []
    return None, _likely_missing(work, sink)


def _likely_missing(work: _Download, sink: PathSink) -> list[Cid]:
    missing: list[Cid] = []
    path: tuple[str, ...] | None = None
    offset = kept = 0
    for item in work.coming(LOOK_AHEAD):
        if item.size is None or item.path != path:
            path, kept = item.path, sink.kept_size(item.path)
            offset = sink.position if item.size is not None else 0
        if item.size is None or offset + item.size > kept:
            missing.append(item.cid)
        offset += item.size or 0
    return missing


def _kept_block(item: Upcoming, sink: PathSink) -> bytes | None:
    """The block, when the bytes it holds are on this disk. Hashed: nothing else counts."""
    if item.cid.digest_code == IDENTITY:
        return None
    size = sink.kept_size(item.path) if item.size is None else item.size
    if not 0 < size <= MAX_BLOCK_BYTES or (item.size is None and item.cid.codec != RAW):
        return None
    data = sink.kept(item.path, sink.position if item.size is not None else 0, size)
    if len(data) != size:
        return None
    if item.cid.codec == DAG_PB:
        data = encode_node(PBNode((), encode_unixfs(UnixFsNode(FileType.FILE, data, len(data)))))
    return data if item.cid.matches(data) else None


def _report(work: _Download, progress: Progress | None) -> None:
    if progress is not None:
        progress(work.received, work.total)


class _Download:
    """Feeds bytes to the verifier and its events to a sink; runs in a worker thread."""

    def __init__(self, root: Cid, sink: Sink) -> None:
        self._verifier = CarStreamVerifier(root)
        self._sink = sink
        self.received = 0
        self.reused = 0
        self.size = 0
        self.blocks = 0
        self.total: int | None = None

    @property
    def next(self) -> Cid | None:
        """The block that has to come next; None when all have come."""
        coming = self._verifier.upcoming(1)
        return coming[0].cid if coming else None

    def coming(self, limit: int) -> list[Upcoming]:
        """The blocks that have to come next, as far as they are known."""
        return self._verifier.upcoming(limit)

    def feed(self, data: bytes) -> None:
        """Check and write what these bytes of a CAR complete."""
        for event in self._verifier.feed(data):
            self._take(event)

    def take(self, block: bytes) -> None:
        """Check and write the block that comes next."""
        for event in self._verifier.take(block):
            self._take(event)

    def end(self) -> None:
        """Check that all of it came. Raises IntegrityError."""
        for event in self._verifier.finish():
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, FileBytes):
            self.received += len(event.data)
        elif isinstance(event, FileStarted) and not event.path:
            self.total = event.size
        elif isinstance(event, TreeEnded):
            self.size, self.blocks = event.size, event.blocks
        self._sink.take(event)


def _with_hint(error: BaseException, path: Path, kept: bool) -> BaseException:
    """The error, with what to do about what is left."""
    if isinstance(error, OSError) and not isinstance(error, MpisaError):
        error = _disk_error(error, path)
    if kept and isinstance(error, MpisaError):
        error.hint = f"{error.hint}; " if error.hint else ""
        error.hint += "what has come is kept: the same command goes on there"
    return error


def _disk_error(error: OSError, path: Path | None) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = "" if path is None else f" for {path}"
        return DiskFull(f"no space left{where}", hint="free some, then get it again")
    return error
