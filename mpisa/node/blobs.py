"""Bytes by CID as the API uses them: put, get as CAR, look inside, pin. See `mpisa.node.facade.Blobs`.

Whatever is missing here is fetched from peers first and hashed before it is answered; peers get it from here when it is
durable. A put or a complete
retrieval makes this node a provider: announcements run behind the answer, a bounded number at a time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from mpisa.node.blob_check import Check, check_slice
from mpisa.node.car_upload import Holding, is_whole, missing_of, take_car
from mpisa.node.dag import Walk
from mpisa.node.views import CarView, CheckView, EventKind, PinView, StatView
from mpisa.primitives.car_stream import encode_car_header, encode_car_section
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, NotFound
from storage.pins import PinKind, PinReason
from storage.reader import DagReader

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from concurrent.futures import Executor

    from mpisa.node.events import EventHub
    from mpisa.node.providers import Providers
    from mpisa.node.publishing import Publishing
    from mpisa.node.retrieval import Retriever
    from mpisa.node.views import Retrieved
    from storage.blockstore import BlockStore
    from storage.importer import ImportResult
    from storage.pins import PinStore

MAX_ANNOUNCEMENTS = 1_024
"""Announcements that wait for their turn; the oldest make room, since re-providing repeats them."""

DROPPABLE = frozenset((PinReason.USER, PinReason.PUBLISH))
"""What an unpin drops that names no reason."""

_T = TypeVar("_T")


class BlobStore:
    """See the module. Belongs to the loop; blocking work runs in `executor`."""

    def __init__(
        self,
        store: BlockStore,
        pins: PinStore,
        publishing: Publishing,
        retriever: Retriever,
        providers: Providers,
        events: EventHub,
        executor: Executor,
    ) -> None:
        self._store = store
        self._pins = pins
        self._publishing = publishing
        self._retriever = retriever
        self._providers = providers
        self._events = events
        self._executor = executor
        self._holding = Holding(store)
        self._announcements: deque[Cid] = deque(maxlen=MAX_ANNOUNCEMENTS)
        self._announce_wake = asyncio.Event()

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def put_stream(self, reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult:
        """One file. Durable and pinned on return. Raises UsageError, Rejection(TOO_LARGE), DiskFull."""
        with self._store.lease("put"):
            return await self._published(await self._publishing.put_stream(reader, profile))

    async def put_tar(self, reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult:
        """A tar archive as a directory. Durable and pinned on return. Raises Rejection for a hostile one."""
        with self._store.lease("put"):
            return await self._published(await self._publishing.put_tar(reader, profile))

    async def _published(self, result: ImportResult) -> ImportResult:
        await self._pin(result.cid, PinKind.RECURSIVE, "", PinReason.PUBLISH)
        self._announce(result.cid)
        return result

    async def put_car(self, reader: AsyncIterator[bytes]) -> CarView:
        """Blocks of a CAR, durable on return; roots whose whole DAG is here are pinned and announced.

        Raises Rejection for a stream that is cut or lies, and for a DAG that no honest client makes.
        """
        pinned = []
        with self._holding.upload():  # also protects what is put now until its root is pinned
            taken = await self._publishing.run(reader, take_car)
            for root in dict.fromkeys(taken.roots):
                if await self._run(partial(is_whole, self._store, root.require_supported())):
                    await self._pin(root, PinKind.RECURSIVE, "", PinReason.PUBLISH)
                    self._announce(root)
                    pinned.append(root)
        return CarView(taken.roots, taken.blocks, taken.size, tuple(pinned))

    async def missing(self, cids: Sequence[Cid]) -> tuple[int, ...]:
        """Which of these blocks aren't here, by their places. What is here is not collected for an hour."""
        self._holding.lease().keep(cids)
        return await self._run(lambda: missing_of(self._store, cids))

    async def check(self, cid: Cid) -> CheckView:
        """Hash all local blocks of a DAG again. Raises Rejection for one that is malformed or too large."""
        check = Check(Walk([cid.require_supported()]))
        while not check.over:
            await self._run(lambda: check_slice(self._store, check))
        named = (tuple(check.damaged_names), tuple(check.missing_names))
        return CheckView(cid, check.blocks, check.size, check.damaged, check.missing, *named)

    def let_go(self) -> None:
        """Let go of what uploads left that are over, for space is wanted."""
        self._holding.let_go()

    def close(self) -> None:
        """Let go of what uploads held."""
        self._holding.close()

    def _announce(self, cid: Cid) -> None:
        self._announcements.append(cid)
        self._announce_wake.set()

    async def announce(self) -> None:
        """Announces what was put, one after another; runs until cancelled."""
        while True:
            while self._announcements:
                await self._providers.announce(self._announcements.popleft())
            self._announce_wake.clear()
            await self._announce_wake.wait()

    async def ensure(self, cid: Cid, *, progress: Callable[[int, int], None] | None = None) -> Retrieved:
        """Make the whole DAG local. Raises NotFound with what was tried, IntegrityError, DiskFull."""
        retrieved = await self._retriever.ensure(cid, progress)
        if retrieved.fetched_blocks:
            self._announce(cid)
        return retrieved

    async def block(self, cid: Cid) -> bytes:
        """One block, fetched when it isn't local, and stored behind the answer. Raises NotFound."""
        return await self._retriever.block(cid)

    def local(self, cid: Cid) -> bytes | None:
        """The block when this node holds it. Blocks the calling thread for the read."""
        try:
            return self._store.get(cid)
        except NotFound:
            return None

    async def car(self, cid: Cid) -> AsyncIterator[bytes]:
        """CARv1 of the whole DAG: depth first, a block as often as it is linked. Raises as ensure, also midway."""
        first = True
        async for blocks in self._retriever.pieces(cid):
            parts = [encode_car_header((cid,))] if first else []
            first = False
            for block_cid, data in blocks:
                parts.append(encode_car_section(block_cid, len(data)))
                parts.append(data)
            yield b"".join(parts)
        if first:  # an identity CID holds its block itself: there is nothing to send but the header
            yield encode_car_header((cid,))

    async def stat(self, cid: Cid) -> StatView:
        """What a CID is, from its root block."""
        local = await self._run(lambda: self._store.has(cid.require_supported()))
        await self._retriever.block(cid, durable=True)
        found = await self._run(lambda: DagReader(self._store.get).stat(cid))
        mtime = found.mtime
        mtime_ns = None if mtime is None else mtime.seconds * 1_000_000_000 + (mtime.nanoseconds or 0)
        more = (found.target, found.mode, mtime_ns)
        return StatView(cid, found.kind, found.size, found.dag_size, found.links, local, *more)

    async def pin(self, cid: Cid, *, recursive: bool = True, name: str = "") -> PinView:
        """Make the DAG (or the one block) local, then keep it. Raises as ensure."""
        with self._store.lease(f"pin of {cid}"):  # what is found here stays until the pin is durable
            if recursive:
                await self.ensure(cid)
            else:
                await self._retriever.block(cid, durable=True)
            kind = PinKind.RECURSIVE if recursive else PinKind.DIRECT
            return await self._pin(cid, kind, name, PinReason.USER)

    async def _pin(self, cid: Cid, kind: PinKind, name: str, reason: PinReason) -> PinView:
        pin = await self._run(lambda: self._pins.pin(cid, kind, name=name, reason=reason))
        self._events.publish(EventKind.PIN, {"cid": str(cid), "kind": kind.value, "pinned": True})
        return PinView(pin.cid, pin.kind.value, pin.name, pin.reason.value)

    async def unpin(self, cid: Cid, *, reason: str | None = None) -> None:
        """Drop the pins of one reason, without one those of users and of publishing. Raises NotFound for none.

        Custody is a promise to others: its pins are dropped only by that name.
        """
        await self._run(lambda: self._unpin(cid, reason))
        self._events.publish(EventKind.PIN, {"cid": str(cid), "pinned": False})

    def _unpin(self, cid: Cid, reason: str | None) -> None:
        if reason is not None:
            self._pins.unpin(cid, reason=PinReason(reason))
            return
        droppable = {pin.reason for pin in self._pins.pins_of(cid)} & DROPPABLE
        if not droppable:
            held = self._pins.is_pinned(cid)
            raise NotFound(
                f"{cid} is pinned for custody only" if held else f"{cid} is not pinned",
                hint="to break custody: --reason custody" if held else None,
            )
        for one in sorted(droppable):
            self._pins.unpin(cid, reason=one)

    def pins(self) -> tuple[PinView, ...]:
        """All pins, in the order of their multihashes."""
        return tuple(PinView(pin.cid, pin.kind.value, pin.name, pin.reason.value) for pin in self._pins.list())


class LocalBlocks:
    """What the peer port serves from: local blocks only, damage looks like absence to a stranger but is remembered."""

    def __init__(self, store: BlockStore, on_damage: Callable[[MpisaError], None]) -> None:
        self._store = store
        self._on_damage = on_damage

    def get(self, cid: Cid) -> bytes | None:
        """The block's bytes, or None. Thread-safe."""
        try:
            return self._store.get(cid)
        except NotFound:
            return None
        except MpisaError as error:
            self._on_damage(error)
            return None

    def size_of(self, cid: Cid) -> int | None:
        """The block's length, or None. Thread-safe."""
        try:
            return self._store.size_of(cid)
        except NotFound:
            return None
        except MpisaError as error:
            self._on_damage(error)
            return None
