"""What a simulated node hands to those who are behind: the real answers of a node, read from a simulated disk.

Ranges come from `mpisa.node.serving`, offers, epoch proofs and the choice of a snapshot's base from
`mpisa.node.snapshots`; `Shelf` shows them the disk as the stores of a node would. Networks, threads and clocks are left
out. Old blocks are forgotten by the rule of `mpisa.node.pruning`.
"""

from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Final, cast

from consensus.dag.vertex import VertexRef
from consensus.order.ranges import decode_outline
from consensus.parameters import Parameters
from mpisa.config import HistoryConfig
from mpisa.node.epoch_record import EpochRecord
from mpisa.node.serving import BLOCKS, RangeRequest, Serving
from mpisa.node.snapshots import EPOCHS, SNAPSHOTS, STATE, Snapshots, encode_chunk
from mpisa.node.state_pins import MAX_PINS
from mpisa.node.state_reader import StateChunk
from mpisa.node.state_storage import LAST_PATH
from mpisa.primitives import codec, merkle
from mpisa.primitives.errors import MpisaError, NotFound
from mpisa.primitives.header import Certificate, Header, encode_header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round
from mpisa.primitives.merkle_range import prove_range
from tests.simulator.disk import Disk
from tests.simulator.ledger import Block, State

if TYPE_CHECKING:
    from tests.simulator.node import Node

REFUSED: Final = b""
SLACK_BLOCKS: Final = 4


class Shelf:
    """A disk as a node's ledger and vertex store."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._pins: dict[int, Block] = {}

    @property
    def height(self) -> int:
        return self._disk.height

    @property
    def certified_height(self) -> int:
        return self._disk.certified

    @property
    def lowest_height(self) -> int:
        return self._disk.lowest

    @property
    def cursor(self) -> bytes | None:
        return self._disk.head.cursor or None

    def header(self, height: int) -> Header:
        block = self._disk.block(height)
        header = self._disk.closings.get(height) if block is None else block.header
        if header is None:
            raise NotFound(f"header {height} isn't kept")
        return header

    def raw_header(self, height: int) -> bytes:
        return encode_header(self.header(height))

    def certificate(self, height: int) -> Certificate | None:
        return self._disk.certificates.get(height)

    def raw_certificate(self, height: int) -> bytes:
        certificate = self.certificate(height)
        return b"" if certificate is None else certificate.encode()

    def outline(self, height: int) -> bytes | None:
        block = self._disk.block(height) if height >= self.lowest_height else None
        return None if block is None else block.outline

    def epoch(self, epoch: int) -> EpochRecord:
        record = self._disk.records.get(Epoch(epoch))
        if record is None:
            raise NotFound(f"epoch {epoch} isn't known")
        return record

    def epoch_entries(self, epoch: int) -> bytes | None:
        return self._disk.entries.get(Epoch(epoch))

    def keep_epoch_entries(self, epoch: int, entries: bytes) -> None:
        self._disk.entries[Epoch(epoch)] = entries

    def value_at(self, key: bytes, height: int) -> bytes | None:
        return self._state(height).get(key)

    def prove(self, key: bytes, height: int) -> merkle.MapProof:
        return merkle.prove(self._state(height).root, key)

    def _state(self, height: int) -> State:
        block = self._disk.block(height)
        if block is None:
            raise NotFound(f"the state of height {height} isn't kept")
        return block.state

    @property
    def pinned_heights(self) -> tuple[int, ...]:
        return tuple(self._pins)

    def pin_state(self, height: int) -> None:
        block = self._disk.block(height)
        assert block is not None, "a kept block is pinned"
        self._pins[height] = block
        if len(self._pins) > MAX_PINS:
            del self._pins[next(iter(self._pins))]

    def state_chunk(self, height: int, first: bytes, max_bytes: int) -> StateChunk:
        """About so many bytes of a pinned height's state."""
        state = self._pins[height].state
        paths = state.by_path()
        found, size, last = [], 0, LAST_PATH
        for path, key, value in paths[bisect_left(paths, (first,)) :]:
            found.append((key, value))
            size += len(key) + len(value)
            if size >= max_bytes:
                last = path
                break
        return StateChunk(tuple(found), last, prove_range(state.root, first, last))

    def vertex(self, epoch: int, number: int, author: int, identifier: bytes) -> bytes | None:
        ref = VertexRef(Round(number), AuthorityIndex(author), identifier)
        return self._disk.of(Epoch(epoch)).raws.get(ref)


class Provider:
    """What one life of a node offers. Pins end with it."""

    def __init__(self, node: "Node", parameters: Parameters) -> None:
        history = node.world.scenario.history
        assert history is not None
        nothing: Any = None
        self._node = node
        self._history = history
        self._disk = node.disk
        self._parameters = parameters
        self.shelf = Shelf(node.disk)
        store = cast(Any, self.shelf)
        config = HistoryConfig(blocks=history.blocks, snapshot_blocks=history.snapshot_blocks)
        self._serving = Serving(nothing, store, store, parameters, nothing)
        self._snapshots = Snapshots(nothing, store, config, parameters, nothing)

    def begin(self) -> None:
        """Offers what the disk holds now: after a start, and behind a snapshot."""
        self._pin(self.shelf.certified_height)
        self._snapshots._prove_present_epoch()

    def certified(self, height: int) -> None:
        """A height was certified here."""
        if height % self._history.snapshot_blocks == 0:
            self._pin(height)
        self._prune()

    def executed(self, header: Header) -> None:
        """A block was executed here."""
        if header.closes_epoch:
            self._snapshots._prove_present_epoch()

    def answer(self, kind: str, body: bytes) -> bytes:
        """The truth, or REFUSED where there is nothing to say."""
        try:
            return self._answer(kind, body)
        except MpisaError:
            return REFUSED

    def _answer(self, kind: str, body: bytes) -> bytes:
        if kind == BLOCKS:
            return self._serving._read(RangeRequest.decode(body))
        if kind == SNAPSHOTS:
            return self._snapshots._offers()
        if kind == EPOCHS:
            return self._snapshots._epochs(codec.expect_int(codec.decode(body, max_bytes=16), "epoch", 0, 1 << 53))
        assert kind == STATE
        height, first = codec.expect_tuple(codec.decode(body, max_bytes=64), "state request", length=2)
        assert isinstance(height, int)
        assert isinstance(first, bytes)
        if height not in self.shelf.pinned_heights:
            raise NotFound(f"no snapshot of height {height} is offered here")
        return encode_chunk(self.shelf.state_chunk(height, first, self._history.chunk_bytes))

    def _pin(self, height: int) -> None:
        if height < self.shelf.lowest_height or self.shelf.header(height).closes_epoch:
            return
        base = self._snapshots._base_of(height)
        if base is not None:
            self.shelf.pin_state(height)
            self._snapshots._bases[height] = base

    def _prune(self) -> None:
        shelf = self.shelf
        through = min(shelf.certified_height - self._history.blocks, self._snapshots.needed_from() - 1)
        if through - shelf.lowest_height + 1 < SLACK_BLOCKS:
            return
        outline = shelf.outline(through)
        assert outline is not None, "a kept block has its outline"
        leader = decode_outline(outline, self._parameters.heartbeat_ms + 1).commits[-1][-1]
        gone = self._disk.prune(through, leader.round - self._parameters.gc_depth)
        if not self._node.strategy.is_byzantine:
            for epoch, vertices in gone.items():
                self._node.world.pruned.setdefault(epoch, {}).update(vertices)
