"""Putting files and directories on a node: built here, sent block by block, only what the node lacks.

The DAG is built and hashed on this machine (`tree`). Its blocks go in batches: the node is asked which it lacks, these
are sent as a CAR, and the last CAR names the root, which the node pins when all of its DAG is there. So a put that was
interrupted goes on when it is called again, whoever began it; one that returns has hashed every byte here, and the node
has every block durably. At most BATCHES batches are on their way. A large file of which the node knows nothing goes as
one stream (`streaming`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar

from mpisa.primitives.car_stream import encode_car_header, encode_car_section
from mpisa.primitives.errors import IntegrityError, NotReady
from mpisa.primitives.profiles import DEFAULT_PROFILE, Profile, profile_by_name
from mpisa.sdk import models, streaming
from mpisa.sdk.ignore import Ignore, read_rules
from mpisa.sdk.transport import ConnectionCut
from mpisa.sdk.tree import Built, Source, build, open_source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpisa.primitives.cid import Cid
    from mpisa.sdk.async_client import Progress
    from mpisa.sdk.transport import Transport

_T = TypeVar("_T")

BATCH_BYTES: Final = 16 << 20
BATCH_BLOCKS: Final = 2_048
BATCHES: Final = 3
PIECE_BYTES: Final = 1 << 20
MAX_TRIES: Final = 5
BUSY_PAUSE_S: Final = 0.4
"""A node that has too many uploads open says so: we wait a little longer each time."""
STORE_SILENCE_S: Final = 600.0
"""How long a node may take, in silence, to make what was sent durable."""
CAR_TYPE: Final = "application/vnd.ipld.car"


async def put(
    transport: Transport,
    path: str | Path | BinaryIO,
    *,
    profile: str | None = None,
    ignore: Sequence[str] = (),
    ignore_file: bool = True,
    progress: Progress | None = None,
) -> models.PutResult:
    """Send a file, a directory or a stream; returns what the node has now.

    Raises NotFound or UsageError before anything is sent, IntegrityError for a file that changes meanwhile.
    """
    chosen = DEFAULT_PROFILE if profile is None else profile_by_name(profile)
    if isinstance(path, (str, Path)):
        source = await asyncio.to_thread(_look, Path(path), ignore, ignore_file)
    else:
        source = Source(None, None, None, path)
    sent = 0
    is_large = source.items is None and (source.total or 0) >= streaming.WORTH_BYTES
    # A stream has no mode and no time: a file that is to keep them goes by blocks.
    file = source.path if is_large and not (chosen.preserve_mode or chosen.preserve_mtime) else None
    if file is not None and await _patiently(lambda: streaming.is_unknown(transport, file, chosen)):
        with contextlib.suppress(NotReady, ConnectionCut):  # then block by block: what has come is there
            silence = max(STORE_SILENCE_S, transport.timeout)
            return await streaming.send(transport, file, chosen, progress, silence)
    for _ in range(1 if source.stream is not None else 2):
        work = _Upload(transport, source, chosen, progress)
        built, taken = await work.run()
        sent += work.sent
        if str(built.cid) in taken.pinned:
            return models.PutResult(cid=str(built.cid), size=built.size, blocks=built.blocks, sent=sent)
    raise IntegrityError(
        f"the node lacks blocks of {built.cid} although all were sent", hint="put it again; `mpisa node doctor` looks"
    )


def _look(path: Path, ignore: Sequence[str], ignore_file: bool) -> Source:
    rules: Ignore = read_rules(path, ignore, use_file=ignore_file)
    return open_source(path, rules)


class _Abandoned(Exception):
    """The sending ended before the building did."""


@dataclass(slots=True)
class _Batch:
    """Blocks to be sent together, and the bytes of content that are done with them."""

    blocks: list[tuple[Cid, bytes]] = field(default_factory=list)
    size: int = 0
    content: int = 0


class _Upload:
    """One way through a source: a thread builds, tasks in the loop send."""

    def __init__(self, transport: Transport, source: Source, profile: Profile, progress: Progress | None) -> None:
        self._transport = transport
        self._source = source
        self._profile = profile
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._slots = threading.Semaphore(BATCHES)
        self._batch = _Batch()
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: BaseException | None = None
        self._done = 0
        self.sent = 0
        """Bytes of blocks that the node lacked."""

    async def run(self) -> tuple[Built, models.CarResult]:
        """Build and send everything; what was built, and the node's answer to the root."""
        building = self._loop.run_in_executor(None, build, self._source, self._profile, self._emit)
        try:
            built = await asyncio.shield(building)
            await asyncio.gather(*self._tasks)
            if self._failure is not None:
                raise self._failure
            lacking = await self._lacking(self._batch)
            taken = await self._send((built.cid,), lacking)
        except BaseException as error:
            self._failure = self._failure or error
            for task in self._tasks:
                task.cancel()
            self._slots.release(BATCHES)
            await asyncio.shield(asyncio.wait([building]))
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if not building.cancelled():
                building.exception()
            if isinstance(error, _Abandoned) and self._failure is not error:
                raise self._failure from None
            raise
        self._count(self._batch)
        return built, taken

    def _emit(self, cid: Cid, block: bytes | None, content: int) -> None:
        """In the building thread: collect a block, wait for a free place when a batch is full."""
        batch = self._batch
        batch.content += content
        if block is not None:
            batch.blocks.append((cid, block))
            batch.size += len(block)
        if batch.size >= BATCH_BYTES or len(batch.blocks) >= BATCH_BLOCKS:
            self._slots.acquire()
            if self._failure is not None:
                raise _Abandoned
            self._batch = _Batch()
            self._loop.call_soon_threadsafe(self._begin, batch)

    def _begin(self, batch: _Batch) -> None:
        task = self._loop.create_task(self._deliver(batch))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, batch: _Batch) -> None:
        try:
            lacking = await self._lacking(batch)
            if lacking:
                await self._send((), lacking)
            self._count(batch)
        except BaseException as error:
            self._failure = self._failure or error
            if not isinstance(error, Exception):
                raise
        finally:
            self._slots.release()

    def _count(self, batch: _Batch) -> None:
        self._done += batch.content
        if self._progress is not None:
            self._progress(self._done, self._source.total)

    async def _lacking(self, batch: _Batch) -> list[tuple[Cid, bytes]]:
        if not batch.blocks:
            return []
        body = {"cids": [str(cid) for cid, _ in batch.blocks]}
        answer = await _patiently(
            lambda: self._transport.call(models.MissingBlocks, "POST", "/v1/blobs/missing", body=body)
        )
        return [batch.blocks[place] for place in answer.missing if 0 <= place < len(batch.blocks)]

    async def _send(self, roots: tuple[Cid, ...], blocks: list[tuple[Cid, bytes]]) -> models.CarResult:
        taken = await _patiently(
            lambda: self._transport.call(
                models.CarResult,
                "POST",
                "/v1/blobs/car",
                data=_car(roots, blocks),
                headers={"Content-Type": CAR_TYPE},
                silence=max(STORE_SILENCE_S, self._transport.timeout),
            )
        )
        self.sent += sum(len(block) for _, block in blocks)
        return taken


async def _patiently(ask: Callable[[], Awaitable[_T]]) -> _T:
    """Ask again when the node is busy or the connection broke: blocks may be sent twice without harm."""
    for attempt in range(MAX_TRIES):
        try:
            return await ask()
        except (NotReady, ConnectionCut):
            if attempt == MAX_TRIES - 1:
                raise
            await asyncio.sleep(BUSY_PAUSE_S * (attempt + 1) * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError("the loop returns or raises")


async def _car(roots: tuple[Cid, ...], blocks: list[tuple[Cid, bytes]]) -> AsyncIterator[bytes]:
    """The CAR in pieces of about PIECE_BYTES."""
    parts, size = [encode_car_header(roots)], 0
    for cid, block in blocks:
        parts += (encode_car_section(cid, len(block)), block)
        size += len(block)
        if size >= PIECE_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
    if parts:
        yield b"".join(parts)
