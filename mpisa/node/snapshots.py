"""Snapshots that this node hands out: a certified header, the state under it, and what leads to both (docs/protocol.md,
section 18).

The state of every `history.snapshot_blocks`th height, and of the latest when the node starts, is pinned (state_pins):
ordering goes on, nothing is copied. An offer names the certified header of the pinned height and a certified one so far
below it that the blocks between hold the committed window; those blocks are pulled as ranges are. Whoever begins with
genesis finds the set that signed them by the epochs' proofs. Answers are read in one thread, within bounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from consensus.order.ranges import decode_outline
from mpisa.node.epoch_proof import MAX_EPOCH_PROOF_BYTES, EpochProof, prove_entries, read_entries, write_entries
from mpisa.node.state_reader import StateChunk
from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason
from mpisa.primitives.header import (
    HEADER_BYTES,
    MAX_CERTIFICATE_BYTES,
    Certificate,
    Header,
    decode_header,
    encode_header,
)
from mpisa.primitives.identifiers import Epoch
from mpisa.primitives.merkle_range import MAX_RANGE_PROOF_BYTES, RangeProof

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from consensus.parameters import Parameters
    from mpisa.config import HistoryConfig
    from mpisa.network.ports import Network, PeerId
    from mpisa.node.chain_store import ChainStore

SNAPSHOTS, STATE, EPOCHS, HEADER = "snapshots", "state", "epochs", "header"
MAX_OFFERS: Final = 8
CHUNK_BYTES: Final = 1 << 20
MAX_CHUNK_BYTES: Final = 8 << 20
"""A chunk may exceed CHUNK_BYTES by its last entry."""

MAX_CHUNK_ENTRIES: Final = 100_000
MAX_EPOCHS: Final = 256
EPOCHS_BYTES: Final = 4 << 20
MAX_READING: Final = 8
_MAX_NUMBER: Final = (1 << 53) - 1
_PATH_BYTES: Final = 32

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """A certified header whose state is handed out, and the one behind which the blocks with its window begin.

    The base's certificate is None where the epoch's proof vouches for it: it is genesis or a closing header.
    """

    base: Header
    base_certificate: Certificate | None
    header: Header
    certificate: Certificate

    def to_value(self) -> codec.Value:
        """As it travels."""
        base = b"" if self.base_certificate is None else self.base_certificate.encode()
        return encode_header(self.base), base, encode_header(self.header), self.certificate.encode()

    @classmethod
    def from_value(cls, value: codec.Value) -> Offer:
        """The inverse of to_value; raises Rejection. Nothing is verified yet."""
        items = codec.expect_tuple(value, "offer", length=4)
        headers = [codec.expect_bytes(items[at], "offer.header", length=HEADER_BYTES) for at in (0, 2)]
        base, own = [
            codec.expect_bytes(items[at], "offer.certificate", max_length=MAX_CERTIFICATE_BYTES) for at in (1, 3)
        ]
        return cls(
            decode_header(headers[0]),
            Certificate.decode(base) if base else None,
            decode_header(headers[1]),
            Certificate.decode(own),
        )


def encode_offers(offers: tuple[Offer, ...]) -> bytes:
    return codec.encode(tuple(offer.to_value() for offer in offers))


def decode_offers(raw: bytes) -> tuple[Offer, ...]:
    """Raises Rejection."""
    limit = MAX_OFFERS * 2 * (HEADER_BYTES + MAX_CERTIFICATE_BYTES + 32)
    items = codec.expect_tuple(codec.decode(raw, max_bytes=limit, max_depth=2), "offers", MAX_OFFERS)
    return tuple(Offer.from_value(item) for item in items)


def encode_chunk(chunk: StateChunk) -> bytes:
    return codec.encode((chunk.last, chunk.proof.encode(), chunk.entries))


def decode_chunk(raw: bytes) -> StateChunk:
    """Raises Rejection; nothing is verified yet."""
    items = codec.expect_tuple(codec.decode(raw, max_bytes=MAX_CHUNK_BYTES, max_depth=3), "chunk", length=3)
    entries = []
    for item in codec.expect_tuple(items[2], "chunk.entries", MAX_CHUNK_ENTRIES):
        key, value = codec.expect_tuple(item, "chunk.entry", length=2)
        entries.append((codec.expect_bytes(key, "chunk.key"), codec.expect_bytes(value, "chunk.value")))
    return StateChunk(
        tuple(entries),
        codec.expect_bytes(items[0], "chunk.last", length=_PATH_BYTES),
        RangeProof.decode(codec.expect_bytes(items[1], "chunk.proof", max_length=MAX_RANGE_PROOF_BYTES)),
    )


def encode_state_request(height: int, first: bytes) -> bytes:
    return codec.encode((height, first))


def decode_epochs(raw: bytes) -> tuple[EpochProof, ...]:
    """Raises Rejection; nothing is verified yet."""
    value = codec.decode(raw, max_bytes=EPOCHS_BYTES + MAX_EPOCH_PROOF_BYTES, max_depth=4)
    return tuple(EpochProof.from_value(item) for item in codec.expect_tuple(value, "epochs", MAX_EPOCHS))


class Snapshots:
    """See the module. Belongs to the loop; `reader` is one thread."""

    def __init__(
        self, network: Network, store: ChainStore, history: HistoryConfig, parameters: Parameters, reader: Executor
    ) -> None:
        self._network = network
        self._store = store
        self._history = history
        self._parameters = parameters
        self._reader = reader
        self._reading = 0
        self._bases: dict[int, int] = {}
        self._work: set[asyncio.Future[None]] = set()

    def attach(self) -> None:
        """Answers peers from now on."""
        links = self._network.authorities
        links.set_request_handler(SNAPSHOTS, self._answer_offers)
        links.set_request_handler(STATE, self._answer_state)
        links.set_request_handler(EPOCHS, self._answer_epochs)
        links.set_request_handler(HEADER, self._answer_header)

    def begin(self) -> None:
        """Offers what the stores hold now."""
        self._in_background(partial(self._pin, self._store.certified_height))
        self._in_background(self._prove_present_epoch)

    def certified(self, height: int) -> None:
        """A height was certified here."""
        if height % self._history.snapshot_blocks == 0:
            self._in_background(partial(self._pin, height))

    def executed(self, header: Header) -> None:
        """A chain block was executed here: one that closes an epoch leaves the next set in the state."""
        if header.closes_epoch:
            self._in_background(self._prove_present_epoch)

    def needed_from(self) -> int:
        """The lowest height that an offer needs; the latest where there is none."""
        pinned = self._store.pinned_heights
        self._bases = {height: base for height, base in self._bases.items() if height in pinned}
        return min(self._bases.values(), default=self._store.height)

    def _in_background(self, work: Callable[[], None]) -> None:
        future = asyncio.get_running_loop().run_in_executor(self._reader, self._guarded, work)
        self._work.add(future)
        future.add_done_callback(self._work.discard)

    @staticmethod
    def _guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except MpisaError as error:  # nothing is offered then; the node itself goes on
            log.warning("no snapshot", error=str(error))

    def _pin(self, height: int) -> None:
        if height < self._store.lowest_height or self._store.header(height).closes_epoch:
            return
        base = self._base_of(height)
        if base is not None:
            self._store.pin_state(height)
            self._bases[height] = base
            log.info("snapshot", height=height, base=base)

    def _base_of(self, height: int) -> int | None:
        """The highest certified height so far below that the blocks above it hold the window; None if not kept."""
        epoch_base = self._store.epoch(self._store.header(height).epoch).base
        gc_round = self._leader_round(height) - self._parameters.gc_depth
        for base in range(height - 1, self._store.lowest_height - 2, -1):
            if base == epoch_base:
                return base
            if base < self._store.lowest_height:
                return None
            if self._leader_round(base) <= gc_round and self._store.raw_certificate(base):
                return base
        return None

    def _leader_round(self, height: int) -> int:
        outline = self._store.outline(height)
        if outline is None:
            raise NotFound(f"the outline of chain block {height} isn't kept")
        return decode_outline(outline, self._parameters.heartbeat_ms + 1).commits[-1][-1].round

    def _prove_present_epoch(self) -> None:
        """Keeps the entries that show who the validators of the next block are, once an epoch."""
        head = self._store.header(self._store.height)
        epoch = head.epoch + 1 if head.closes_epoch else head.epoch
        if epoch == 0 or self._store.epoch_entries(epoch) is not None:
            return
        record = self._store.epoch(epoch)
        entries = prove_entries(
            [item.address for item in record.validators],
            lambda key: self._store.value_at(key, record.base),
            lambda key: self._store.prove(key, record.base),
        )
        self._store.keep_epoch_entries(epoch, write_entries(entries))

    async def _read(self, work: Callable[[], bytes]) -> bytes:
        if self._reading >= MAX_READING:
            raise Rejection(RejectionReason.RATE_LIMITED, f"{self._reading} answers are being read, ask again later")
        self._reading += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader, work)
        finally:
            self._reading -= 1

    async def _answer_offers(self, peer: PeerId, body: bytes) -> bytes:
        return await self._read(self._offers)

    def _offers(self) -> bytes:
        offers = []
        for height in self._store.pinned_heights:
            base, certificate = self._bases.get(height), self._store.certificate(height)
            if base is None or certificate is None:
                continue
            header, below = decode_header(self._store.raw_header(height)), decode_header(self._store.raw_header(base))
            is_vouched = base == self._store.epoch(header.epoch).base
            offers.append(Offer(below, None if is_vouched else self._store.certificate(base), header, certificate))
        return encode_offers(tuple(offers))

    async def _answer_state(self, peer: PeerId, body: bytes) -> bytes:
        items = codec.expect_tuple(codec.decode(body, max_bytes=64, max_depth=1), "state request", length=2)
        height = codec.expect_int(items[0], "height", 1, _MAX_NUMBER)
        first = codec.expect_bytes(items[1], "first", length=_PATH_BYTES)
        if height not in self._store.pinned_heights:
            raise NotFound(f"no snapshot of height {height} is offered here")
        return await self._read(lambda: encode_chunk(self._store.state_chunk(height, first, CHUNK_BYTES)))

    async def _answer_epochs(self, peer: PeerId, body: bytes) -> bytes:
        epoch = codec.expect_int(codec.decode(body, max_bytes=16, max_depth=0), "epoch", 0, _MAX_NUMBER)
        return await self._read(partial(self._epochs, epoch))

    def _epochs(self, epoch: int) -> bytes:
        """Proofs of the epochs behind this one, ascending."""
        found: list[codec.Value] = []
        size = 0
        while size < EPOCHS_BYTES and len(found) < MAX_EPOCHS:
            proof = self.epoch_proof(Epoch(epoch + 1))
            if proof is None:
                break
            found.append(proof.to_value())
            size += sum(len(item.key) + len(item.value) + len(item.proof) for item in proof.entries)
            epoch += 1
        return codec.encode(tuple(found))

    def epoch_proof(self, epoch: Epoch) -> EpochProof | None:
        """What shows an epoch's validators, as far as this node knows."""
        raw = self._store.epoch_entries(epoch)
        if raw is None:
            return None
        base = self._store.epoch(epoch).base
        certificate = self._store.certificate(base)
        if certificate is None:
            return None
        return EpochProof(decode_header(self._store.raw_header(base)), certificate, read_entries(raw))

    async def _answer_header(self, peer: PeerId, body: bytes) -> bytes:
        height = codec.expect_int(codec.decode(body, max_bytes=16, max_depth=0), "height", 0, _MAX_NUMBER)
        return self._store.raw_header(height)

    async def close(self) -> None:
        """Waits for what is under way."""
        if self._work:
            await asyncio.wait(self._work)
