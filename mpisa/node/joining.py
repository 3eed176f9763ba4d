"""Joining from a snapshot: to the present without the blocks before it (docs/protocol.md, section 18).

Peers' words are checked in this order, each by what was checked before: from the set that this node knows (genesis', or
its ledger's) one closing header an epoch leads to the present set; that set has certified the header that a snapshot is
of; the header's state root binds every chunk of the state; a few certified blocks end in its window root, and give its
cursor. The state fills a directory of its own, chunk by chunk, and what was verified stays there over any break. Only
when all is whole does it take the ledger's place. A peer whose bytes fail a check is dropped, another is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

import structlog

from consensus.order.ranges import Position, require_window, start_of_tail
from mpisa.node.chain_records import closing_changes, derived_prefix, genesis_changes, snapshot_changes
from mpisa.node.epoch_proof import EpochProof, write_entries
from mpisa.node.pursuit import Pursuit
from mpisa.node.ranging import Ranging, Stand
from mpisa.node.snapshots import (
    HEADER,
    SNAPSHOTS,
    STATE,
    Offer,
    decode_chunk,
    decode_offers,
    encode_state_request,
)
from mpisa.node.sources import Sources
from mpisa.node.state_loading import StateLoading
from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.header import Header, decode_header, verify_certificate
from mpisa.primitives.record import StoredRecord
from mpisa.primitives.state_keys import RECORD_SPACE

if TYPE_CHECKING:
    from concurrent.futures import Executor
    from pathlib import Path

    from consensus.order.ranges import CertifiedBlock
    from mpisa.network.ports import PeerId
    from mpisa.node.applying import Applying
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.database import Change
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.epoch_walk import EpochWalk
    from mpisa.primitives.genesis import Genesis

PATH_SPACE = 1 << 256

_T = TypeVar("_T")
_P = TypeVar("_P")
"""What names a peer: its peer id, or its seat in the simulator."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Chart:
    """The epochs as far as they are known: records, and the proofs that led to them."""

    records: dict[int, EpochRecord]
    proofs: dict[int, EpochProof] = field(default_factory=dict)

    @property
    def latest(self) -> EpochRecord:
        return self.records[max(self.records)]

    def judged(self, offers: Iterable[Offer]) -> list[Offer]:
        """Those of epochs known here: of a later one, which may have begun since its proof was asked for, nothing can
        be said.
        """
        return [offer for offer in offers if offer.header.epoch in self.records]

    def verify(self, offer: Offer) -> None:
        """That the sets known here have certified both headers of an offer. Raises Rejection."""
        header = offer.header
        record = self.records.get(header.epoch)
        if record is None or header.closes_epoch or not offer.base.height < header.height:
            raise Rejection(
                RejectionReason.BAD_HEADER,
                f"offer: expected a header of an epoch up to {self.latest.epoch} above its base, "
                f"got height {header.height} of epoch {header.epoch} above {offer.base.height}",
            )
        if header.height <= record.base:
            raise Rejection(RejectionReason.BAD_HEADER, f"offer: epoch {header.epoch} begins above {record.base}")
        verify_certificate(header, offer.certificate, record.validator_set)
        if offer.base_certificate is not None:
            verify_certificate(offer.base, offer.base_certificate, record.validator_set)
        elif offer.base.height != record.base:
            raise Rejection(RejectionReason.BAD_CERTIFICATE, f"offer: nobody certified header {offer.base.height}")


def known_chart(store: ChainStore) -> Chart:
    """The epochs from the first to the last that this ledger can prove itself. A certificate isn't synced: whoever died
    right behind a closing block lacks its own, and with it what the ledger of a snapshot has to begin with. From there
    on the peers prove the way again.
    """
    head = store.header(store.height)
    records = {0: store.epoch(0)}
    for epoch in range(1, head.epoch + 1 + head.closes_epoch):
        record = store.epoch(epoch)
        if not store.raw_certificate(record.base) or store.epoch_entries(epoch) is None:
            break
        records[epoch] = record
    return Chart(records)


def require_own(store: ChainStore, proof: EpochProof) -> None:
    """That a proof's closing header is the one executed here, where an epoch ended here: keys of validators long gone
    can prove another past, but not to whoever has seen this one. Raises Rejection.
    """
    epoch = proof.header.epoch + 1
    try:
        own = store.header(store.epoch(epoch).base)
    except NotFound:
        return
    if own != proof.header:
        raise Rejection(
            RejectionReason.BAD_HEADER,
            f"epoch proof: expected epoch {epoch} to begin behind header {own.height}, {own.hash.hex()}, "
            f"got {proof.header.height}, {proof.header.hash.hex()}",
        )


@dataclass(frozen=True, slots=True)
class Candidate(Generic[_P]):
    """A verified offer, and who made it."""

    offer: Offer
    peers: tuple[_P, ...]


def rank(offers: Iterable[tuple[_P, Offer]], height: int, begun: bytes | None) -> list[Candidate[_P]]:
    """Verified offers of snapshots above a height: the state root already begun first, then the highest, then what most
    peers offer.

    One header above two bases is two candidates: no peer's base counts for another peer. A header that a quorum
    certified may well be a useless base, with too few blocks between, or with some that nobody keeps any more.
    """
    found: dict[tuple[bytes, bytes], tuple[Offer, list[_P]]] = {}
    for peer, offer in offers:
        if offer.header.height > height:
            found.setdefault((offer.header.hash, offer.base.hash), (offer, []))[1].append(peer)
    ranked = [Candidate(offer, tuple(dict.fromkeys(peers))) for offer, peers in found.values()]
    ranked.sort(
        key=lambda item: (item.offer.header.state_root == begun, item.offer.header.height, len(item.peers)),
        reverse=True,
    )
    return ranked


class Joining:
    """See the module. One task calls `join`."""

    def __init__(
        self,
        sources: Sources,
        walk: EpochWalk,
        ranging: Ranging,
        applying: Applying,
        store: ChainStore,
        genesis: Genesis,
        place: Path,
        writer: Executor,
        trust: tuple[int, bytes] | None,
    ) -> None:
        """`place` is the directory in which the new ledger is made."""
        self._sources = sources
        self._walk = walk
        self._ranging = ranging
        self._applying = applying
        self._store = store
        self._genesis = genesis
        self._genesis_header = genesis_header(genesis)
        self._place = place
        self._writer = writer
        self._trust = trust
        self.done = 0.0
        """The part of the state that is here."""

        self.height = 0
        """Of the snapshot that is being loaded."""

    async def join(self) -> bool:
        """Replaces the ledger by a snapshot above it; False when no peer has one that could be loaded whole."""
        chart = await self._follow_epochs()
        if not await self._is_trusted(chart):
            return False
        for candidate in await self._candidates(chart):
            offer = candidate.offer
            self.height, self.done = offer.header.height, 0.0
            log.info("joining from a snapshot", height=self.height, peers=len(candidate.peers))
            loading = await self._in_writer(
                partial(StateLoading, self._place, offer.header.state_root, _lineage_changes)
            )
            try:
                if not await self._load(loading, candidate):
                    continue
                tail = await self._tail(candidate, chart)
                if tail is None:
                    continue
                changes = self._changes(offer, chart, tail[-1].commit.cursor)
                await self._in_writer(partial(loading.finish, changes))
            finally:
                await self._in_writer(loading.close)
            await self._in_writer(partial(self._store.replace, self._place))
            log.info("joined from a snapshot", height=self.height)
            return True
        return False

    async def _in_writer(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._writer, work)

    async def _follow_epochs(self) -> Chart:
        """From the epochs known here to the latest that any peer can prove."""
        chart, own = known_chart(self._store), partial(require_own, self._store)
        async for record, proof in self._walk.steps(chart.latest, self._sources.usable(), require=own):
            chart.records[record.epoch] = record
            chart.proofs[record.epoch] = proof
        return chart

    async def _is_trusted(self, chart: Chart) -> bool:
        """Whether the header known by other means belongs to the chain that the epochs lead along."""
        if self._trust is None:
            return True
        height, expected = self._trust
        for peer in self._sources.usable():
            try:
                header = decode_header(await self._sources.ask(peer, HEADER, codec.encode(height)))
            except MpisaError as error:
                log.info("the trusted header isn't there", peer=peer, error=str(error))
                continue
            record = chart.records.get(header.epoch)
            if header.hash == expected and record is not None and header.validators_hash == record.validator_set.hash:
                return True
            log.warning("a peer has another header at the trusted height", peer=peer, height=height)
        return False

    async def _candidates(self, chart: Chart) -> list[Candidate[PeerId]]:
        """Snapshots above our own height, in the order in which to try them."""
        peers = self._sources.usable()
        answers = await asyncio.gather(*(self._ask_offers(peer, chart) for peer in peers))
        offers = [(peer, offer) for peer, made in zip(peers, answers, strict=True) for offer in made]
        begun = await self._in_writer(partial(StateLoading.root_at, self._place))
        return rank(offers, self._store.height, begun)

    async def _ask_offers(self, peer: PeerId, chart: Chart) -> list[Offer]:
        try:
            raw = await self._sources.ask(peer, SNAPSHOTS, b"")
        except MpisaError as error:
            log.info("no snapshots", peer=peer, error=str(error))
            return []
        try:
            offers = chart.judged(decode_offers(raw))
            for offer in offers:
                await self._sources.check(partial(chart.verify, offer))
                self._require_base(chart, offer)
        except Rejection as rejection:
            self._sources.drop(peer, "snapshots", rejection)
            return []
        return offers

    def _require_base(self, chart: Chart, offer: Offer) -> None:
        """A base without a certificate is the header that its epoch began behind."""
        if offer.base_certificate is None:
            epoch = offer.header.epoch
            known = self._genesis_header if epoch == 0 else self._closing(chart, epoch)
            if offer.base != known:
                raise Rejection(RejectionReason.BAD_HEADER, f"offer: another header {offer.base.height} than is known")

    def _closing(self, chart: Chart, epoch: int) -> Header:
        proof = chart.proofs.get(epoch)
        return self._store.header(chart.records[epoch].base) if proof is None else proof.header

    async def _load(self, loading: StateLoading, candidate: Candidate[PeerId]) -> bool:
        """Whether the whole state is there."""
        while (first := loading.next_path) is not None:
            self.done = int.from_bytes(first, "big") / PATH_SPACE
            pursuit = Pursuit(
                f"state from {first.hex()[:8]}",
                self._sources,
                partial(self._still_usable, candidate),
                partial(self._ask_chunk, encode_state_request(candidate.offer.header.height, first)),
            )
            if await pursuit.take(partial(self._add, loading)) is None and not self._still_usable(candidate):
                return False
        self.done = 1.0
        return True

    def _still_usable(self, candidate: Candidate[PeerId]) -> list[PeerId]:
        usable = self._sources.usable()
        return [peer for peer in candidate.peers if peer in usable]

    async def _ask_chunk(self, body: bytes, peer: PeerId) -> bytes:
        return await self._sources.ask(peer, STATE, body)

    async def _add(self, loading: StateLoading, raw: bytes) -> bool:
        """Raises Rejection."""
        chunk = await self._sources.check(partial(decode_chunk, raw))
        await self._in_writer(partial(loading.add, chunk))
        return True

    async def _tail(self, candidate: Candidate[PeerId], chart: Chart) -> list[CertifiedBlock] | None:
        """The blocks from the base to the snapshot's header, their vertices kept; None when they don't come.

        All from one peer that made the offer: base, slot and conduct are its word, and when they don't lead to the
        header's window it is the one who lied.
        """
        await self._ranging.poll()
        for peer in candidate.peers:
            blocks = await self._tail_from(peer, candidate.offer, chart)
            if blocks is not None:
                return blocks
        return None

    async def _tail_from(self, peer: PeerId, offer: Offer, chart: Chart) -> list[CertifiedBlock] | None:
        record = chart.records[offer.header.epoch]
        start = start_of_tail(offer.base)
        stand = Stand(start, record.committee, record.validator_set, is_window_known=False)
        blocks: list[CertifiedBlock] = []
        position: Position = start
        async for batch in self._ranging.batches(stand, offer.header.height, among=(peer,)):
            await self._applying.keep(batch.blocks)
            blocks += [replace(block, vertices=(), raws=()) for block in batch.blocks]
            position = batch.after
        if position.header != offer.header:
            return None
        try:
            require_window(position)
        except Rejection as rejection:
            self._sources.drop(peer, "a snapshot's window", rejection)
            return None
        return blocks

    def _changes(self, offer: Offer, chart: Chart, cursor: bytes) -> list[Change]:
        genesis = self._genesis
        changes = genesis_changes(self._genesis_header, genesis_state(genesis), genesis.hash)
        for epoch in sorted(chart.records)[1:]:
            if epoch > offer.header.epoch:
                break
            proof = chart.proofs.get(epoch)
            if proof is not None:
                changes += closing_changes(proof.header, proof.certificate, write_entries(proof.entries))
                continue
            header = self._closing(chart, epoch)
            certificate, entries = self._store.certificate(header.height), self._store.epoch_entries(epoch)
            assert certificate is not None, "known_chart ends before an epoch whose certificate is missing"
            assert entries is not None, "known_chart ends before an epoch whose entries are missing"
            changes += closing_changes(header, certificate, entries)
        records = [chart.records[epoch] for epoch in sorted(chart.records)[1:] if epoch <= offer.header.epoch]
        return changes + snapshot_changes(offer.header, offer.certificate, cursor, records)


def _lineage_changes(key: bytes, value: bytes) -> Iterable[Change]:
    """The index of what was made from what, as execution writes it."""
    if not key.startswith(RECORD_SPACE):
        return ()
    record = StoredRecord.decode(value).record
    return [(derived_prefix(item.cid.to_bytes()) + key, b"") for item in record.inputs if item.cid is not None]
