"""Joining from a snapshot in the simulator: epochs, header, state, window (docs/protocol.md, section 18).

The order of the checks is that of `mpisa.node.joining`, and each check is the real one: `verify_epoch_proof`,
`Chart.verify`, `verify_range` over every chunk, `Ranging._check` and `require_window` over the blocks that lead to the
header. What is put together replaces the ledger on the simulated disk in one step.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from consensus.dag.judging import Era
from consensus.order.epoch import EpochStart, start_behind
from consensus.order.ranges import CertifiedBlock, Position, require_window, start_of_tail
from mpisa.node.epoch_proof import EpochProof, verify_epoch_proof, write_entries
from mpisa.node.epoch_record import EpochRecord
from mpisa.node.joining import Candidate, Chart, known_chart, rank, require_own
from mpisa.node.ranging import Stand
from mpisa.node.snapshots import (
    EPOCHS,
    SNAPSHOTS,
    STATE,
    Offer,
    decode_chunk,
    decode_epochs,
    decode_offers,
    encode_state_request,
)
from mpisa.node.state_reader import StateChunk
from mpisa.primitives import codec, merkle
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Header
from mpisa.primitives.identifiers import Epoch
from mpisa.primitives.merkle_range import verify_range
from tests.simulator.disk import Loading
from tests.simulator.ledger import Block, State
from tests.simulator.provider import REFUSED
from tests.simulator.sources import Ask, Sources, Work

if TYPE_CHECKING:
    from tests.simulator.keeping_up import KeepingUp
    from tests.simulator.node import Node

SYNCED_CHUNKS = 4
"""So many chunks are written before the disk syncs them by itself."""


class Joining:
    """See the module."""

    def __init__(self, node: "Node", sources: Sources, keeping_up: "KeepingUp") -> None:
        self._node = node
        self._sources = sources
        self._keeping_up = keeping_up

    def join(self) -> Work[bool]:
        """Replaces the ledger by a snapshot above it; False when no peer has one that could be loaded whole."""
        chart = yield from self._follow_epochs()
        for candidate in (yield from self._candidates(chart)):
            offer = candidate.offer
            self._node.world.note(self._node.seat, f"joins from a snapshot of height {offer.header.height}")
            state = yield from self._load(candidate)
            if state is None:
                continue
            tail = yield from self._tail(candidate, chart)
            if tail is None:
                continue
            self._replace(offer, chart, state, tail[-1])
            yield None
            return True
        return False

    def _follow_epochs(self) -> Work[Chart]:
        assert self._node.provider is not None
        shelf = cast(Any, self._node.provider.shelf)
        chart = known_chart(shelf)
        for peer in self._sources.usable():
            for record, proof in (yield from self.walk(chart.latest, [peer])):
                try:
                    require_own(shelf, proof)
                except Rejection as rejection:
                    self._sources.drop(peer, "epochs", rejection)
                    break
                chart.records[record.epoch] = record
                chart.proofs[record.epoch] = proof
        return chart

    def walk(self, known: EpochRecord, peers: Sequence[int]) -> Work[list[tuple[EpochRecord, EpochProof]]]:
        """The epochs behind `known` as far as any of these peers proves them, as `mpisa.node.epoch_walk` goes."""
        steps: list[tuple[EpochRecord, EpochProof]] = []
        begun = -1
        while known.epoch > begun:
            begun = known.epoch
            answers = yield Ask([(peer, EPOCHS, codec.encode(begun)) for peer in peers])
            for peer, raw in zip(peers, answers, strict=True):
                if raw is None or raw == REFUSED:
                    continue
                try:
                    for proof in decode_epochs(raw)[known.epoch - begun :]:
                        known = verify_epoch_proof(proof, known, self._node.world.ledger.chain_hash)
                        steps.append((known, proof))
                except Rejection as rejection:
                    self._sources.drop(peer, "epochs", rejection)
        return steps

    def _candidates(self, chart: Chart) -> Work[list[Candidate[int]]]:
        found: list[tuple[int, Offer]] = []
        peers = self._sources.usable()
        answers = yield Ask([(peer, SNAPSHOTS, b"") for peer in peers])
        for peer, raw in zip(peers, answers, strict=True):
            if raw is None or raw == REFUSED:
                continue
            try:
                offers = chart.judged(decode_offers(raw))
                for offer in offers:
                    chart.verify(offer)
                    self._require_base(chart, offer)
            except Rejection as rejection:
                self._sources.drop(peer, "snapshots", rejection)
                continue
            found += [(peer, offer) for offer in offers]
        loading = self._node.disk.loading
        return rank(found, self._node.disk.height, None if loading is None else loading.root)

    def _require_base(self, chart: Chart, offer: Offer) -> None:
        if offer.base_certificate is None and offer.base != self._closing(chart, offer.header.epoch):
            raise Rejection(RejectionReason.BAD_HEADER, f"offer: another header {offer.base.height} than is known")

    def _closing(self, chart: Chart, epoch: int) -> Header:
        """The header that an epoch begins behind."""
        proof = chart.proofs.get(epoch)
        return self._node.disk.closings[chart.records[epoch].base] if proof is None else proof.header

    def _load(self, candidate: Candidate[int]) -> Work[State | None]:
        """The whole state, chunk by chunk; what was verified stays on the disk."""
        disk, header = self._node.disk, candidate.offer.header
        if disk.loading is None or disk.loading.root != header.state_root:
            disk.loading = Loading(header.state_root)
            yield None
        loading = disk.loading
        while (first := loading.next_path) is not None:
            chunk = yield from self._sources.pursue(
                lambda: self._still_usable(candidate),
                STATE,
                encode_state_request(header.height, first),
                lambda _, raw, first=first: _chunk(loading.root, first, raw),  # type: ignore[misc]
            )
            if chunk is None:
                if not self._still_usable(candidate):
                    return None
                continue
            loading.chunks.append(chunk)
            if len(loading.chunks) % SYNCED_CHUNKS == 0:
                loading.synced = len(loading.chunks)
            yield None
        entries = dict(item for chunk in loading.chunks for item in chunk.entries)
        state = State(entries, merkle.build(entries))
        assert merkle.root_hash(state.root) == header.state_root, "verified chunks make up the state"
        return state

    def _still_usable(self, candidate: Candidate[int]) -> list[int]:
        usable = self._sources.usable()
        return [peer for peer in candidate.peers if peer in usable]

    def _tail(self, candidate: Candidate[int], chart: Chart) -> Work[list[CertifiedBlock] | None]:
        """The blocks from the base to the snapshot's header, their vertices kept."""
        yield from self._keeping_up.poll()
        for peer in candidate.peers:
            blocks = yield from self._tail_from(peer, candidate.offer, chart)
            if blocks is not None:
                return blocks
        return None

    def _tail_from(self, peer: int, offer: Offer, chart: Chart) -> Work[list[CertifiedBlock] | None]:
        record = chart.records[offer.header.epoch]
        position: Position = start_of_tail(offer.base)
        stand = Stand(position, record.committee, record.validator_set, is_window_known=False)
        blocks: list[CertifiedBlock] = []
        work = self._keeping_up.batches(stand, offer.header.height, among=(peer,))
        while (batch := (yield from work.next())) is not None:
            yield from self._keeping_up.keep(batch.blocks)
            blocks += batch.blocks
            position = batch.after
        if position.header != offer.header:
            return None
        try:
            require_window(position)
        except Rejection as rejection:
            self._sources.drop(peer, "a snapshot's window", rejection)
            return None
        return blocks

    def _replace(self, offer: Offer, chart: Chart, state: State, last: CertifiedBlock) -> None:
        disk, header = self._node.disk, offer.header
        records = {epoch: record for epoch, record in sorted(chart.records.items()) if epoch <= header.epoch}
        closings, certificates, starts, entries = {0: disk.closings[0]}, {}, dict[Epoch, EpochStart](), {}
        for epoch, record in records.items():
            closing = self._closing(chart, epoch)
            closings[closing.height] = closing
            starts[epoch] = disk.starts.get(epoch) or start_behind(closing, record.committee)
            proof = chart.proofs.get(epoch)
            if proof is not None:
                certificates[closing.height] = proof.certificate
                entries[epoch] = write_entries(proof.entries)
            elif epoch > 0:
                certificates[closing.height] = disk.certificates[closing.height]
                entries[epoch] = disk.entries[epoch]
        certificates[header.height] = offer.certificate
        eras, closed_ms = {}, {}
        for epoch, record in records.items():
            following = records.get(Epoch(epoch + 1))
            eras[epoch] = Era(starts[epoch].committee, record.base + 1, None if following is None else following.base)
            if following is not None:
                closed_ms[epoch] = closings[following.base].time_ms
        cursor = last.commit.cursor
        start = starts[header.epoch]
        base = Block(header, header.hash, state, (), (), (), (), cursor, start, eras, closed_ms, last.outline)
        disk.replace(base, certificates, closings, records, starts, entries)
        self._node.joined(base, offer.certificate)


def _chunk(root: bytes, first: bytes, raw: bytes) -> StateChunk:
    """Raises Rejection."""
    chunk = decode_chunk(raw)
    verify_range(root, first, chunk.last, chunk.entries, chunk.proof)
    return chunk
