"""How a simulated node keeps up with a chain whose past is forgotten: with its engine, by ranges, by a snapshot.

The rules are those of `mpisa.node.{keeping_up,syncing,ranging,patience,own_past}`, whose checks and decisions are real:
ranges are verified by `Ranging._check`, where a node stands is found by `find_stand`, how far the others are by
`height_to_reach`, and what was signed and isn't remembered by `OwnPast`. Only who waits for what is simulated.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from structlog.testing import capture_logs

from consensus.dag.committee import Committee
from consensus.identity import Seats
from consensus.order.ranges import CertifiedBlock, decode_answer
from mpisa.node.epoch_record import EpochRecord
from mpisa.node.home import Loss
from mpisa.node.own_past import OwnPast
from mpisa.node.ranging import Batch, Ranging, Stand
from mpisa.node.serving import BLOCKS, RangeRequest
from mpisa.node.sources import Bounds
from mpisa.node.standing import height_to_reach
from mpisa.node.syncing import find_stand
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Epoch
from tests.simulator.joining import Joining
from tests.simulator.provider import REFUSED
from tests.simulator.sources import Ask, Pause, Sources, Work

if TYPE_CHECKING:
    from tests.simulator.node import Node

SPAN_BLOCKS: Final = 16
CHECK_MS: Final = 150
FIRST_POLLS_MS: Final = 1_000
POLL_MS: Final = 1_000
PAUSE_MS: Final = 100


class Past:
    """A node's disk as `OwnPast` asks for it: home, epochs, vertices and clock in one."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    @property
    def next_block(self) -> Epoch:
        return self._node.disk.epoch

    def record(self, epoch: Epoch) -> "Past._Members":
        return self._Members(self._node.disk.starts[epoch].committee)

    class _Members:
        def __init__(self, committee: Committee) -> None:
            self.committee = committee

    def lost_in(self, epoch: Epoch) -> str | None:
        return self._node.disk.lost_in(epoch)

    def proposal(self, epoch: Epoch) -> tuple[int, bytes] | None:
        found = self._node.disk.proposals.get(epoch)
        return None if found is None else (found.round, found.raw)

    def now_ms(self) -> int:
        return self._node.clock()

    def write_loss(self, loss: Loss) -> None:
        self._node.disk.loss = loss
        self._node.world.note(self._node.seat, f"sits out: {loss.reason}")

    def lose(self, loss: Loss) -> None:
        """Read from the disk whenever it is asked for."""


class KeepingUp:
    """See the module. One life of a node; `run` is its work."""

    def __init__(self, node: "Node") -> None:
        world, nothing = node.world, cast(Any, None)
        history = world.scenario.history
        assert history is not None
        self._node = node
        self._history = history
        self._parameters = world.scenario.parameters
        self._sources = Sources(node)
        self._ranging = Ranging(nothing, self._parameters)
        past = cast(Any, Past(node))
        self._own_past = OwnPast(past, past, past, cast(Seats, node), past)
        self._joining = Joining(node, self._sources, self)
        self._stand: Stand | None = None
        self._latest: EpochRecord | None = None

    def is_blank(self) -> bool:
        """Whether it has a seat and remembers no own vertex of the present epoch."""
        return self._own_past.is_blank()

    def run(self) -> Work[None]:
        """As long as the node lives."""
        node = self._node
        if self.is_blank():
            yield from self._gather()
        begun, polled = node.world.now, 0
        while True:
            if not node.is_seated():
                node.rest()
                yield from self._follow()
                node.begin()
                continue
            if node.engine is None:
                node.begin()
            now = node.world.now
            is_due = now - begun < FIRST_POLLS_MS or now >= polled + POLL_MS
            if is_due or (node.engine is not None and node.engine.status().catching_up):
                polled = now
                if (yield from self._is_far()):
                    node.rest()
                    yield from self._catch_up()
                    continue
            yield Pause(CHECK_MS)

    # How far the others are.

    def poll(self) -> Work[None]:
        """Hears from every usable peer what it can serve."""
        peers = self._sources.usable()
        answers = yield Ask([(peer, BLOCKS, RangeRequest(1, 0, 0, 0).encode()) for peer in peers])
        for peer, raw in zip(peers, answers, strict=True):
            if raw is None or raw == REFUSED:
                self._sources.rest(peer)
                continue
            try:
                answer = decode_answer(raw, 0, self._parameters)
            except Rejection as rejection:
                self._sources.drop(peer, "bounds", rejection)
            else:
                self._sources.claims[peer] = Bounds(answer.certified, answer.lowest)

    def _survey(self) -> Work[tuple[int, bool]]:
        """How many blocks a validity threshold of the latest provable set is ahead; whether nobody of the known set
        came so far.
        """
        yield from self.poll()
        disk = self._node.disk
        known = disk.records[disk.epoch]
        reached = self._reached_by(known)
        least = max(reached, disk.height)
        ahead = [peer for peer in self._sources.usable() if self._sources.certified(peer) > least]
        latest = known if self._latest is None or self._latest.epoch <= known.epoch else self._latest
        if ahead:
            for record, _ in (yield from self._joining.walk(latest, ahead)):
                latest = record
        self._latest = latest
        is_deserted = latest.epoch > known.epoch and reached < latest.base
        if latest.epoch > known.epoch:
            reached = max(reached, latest.base, self._reached_by(latest))
        return max(0, reached - disk.height), is_deserted

    def _reached_by(self, record: EpochRecord) -> int:
        return height_to_reach(record.committee, _claims_in(record, self._claimed()))

    def _claimed(self) -> dict[int, int]:
        return {peer: bounds.certified for peer, bounds in self._sources.claims.items()}

    def _is_far(self) -> Work[bool]:
        gap, is_deserted = yield from self._survey()
        is_out = self._is_out_of_reach(self._node.disk.height + 1)
        return gap > self._history.far_blocks or is_deserted or (gap > self._history.level_blocks and is_out)

    def _is_out_of_reach(self, height: int) -> bool:
        return not self._sources.able(height, height) and self._sources.highest() > height

    # Coming forward.

    def _gather(self) -> Work[None]:
        """Whoever remembers no own vertex of the epoch takes in what a quorum has before it makes one."""
        node, heard, target = self._node, dict[int, int](), None
        self._stand = None
        node.world.note(node.seat, "remembers no own vertex: looks at what the others have")
        while self.is_blank():
            yield from self.poll()
            committee = node.disk.starts[node.disk.epoch].committee
            if target is None:
                heard.update(self._claimed())
                claims = _claims_in(node.disk.records[node.disk.epoch], heard)
                own = node.seat_in(committee)
                assert own is not None, "who is blank has a seat"
                if committee.is_quorum(committee.stake_of({*claims, own.index})):
                    target = height_to_reach(committee, claims)
            if target is not None and node.disk.height >= target:
                return
            highest = self._sources.highest()
            if highest <= node.disk.height or not (yield from self._advance(highest)):
                yield Pause(PAUSE_MS)

    def _catch_up(self) -> Work[None]:
        self._stand = None
        self._node.world.note(self._node.seat, f"is far behind at height {self._node.disk.height}")
        while True:
            gap, is_deserted = yield from self._survey()
            if gap <= self._history.level_blocks and not is_deserted:
                return
            if not (yield from self._advance(self._node.disk.height + gap)):
                yield Pause(PAUSE_MS)

    def _follow(self) -> Work[None]:
        """Block by block, until an epoch opens in which the node has a seat."""
        self._stand = None
        while not self._node.is_seated():
            yield from self.poll()
            highest = self._sources.highest()
            if highest <= self._node.disk.height or not (yield from self._advance(highest)):
                yield Pause(PAUSE_MS)

    def _advance(self, last: int) -> Work[bool]:
        """By blocks, or by a snapshot where nobody keeps the next block any more; whether it went further."""
        if not self._is_out_of_reach(self._node.disk.height + 1):
            return (yield from self._pull(last))
        self._stand = None
        is_joined = yield from self._joining.join()
        if is_joined:
            with capture_logs():
                self._own_past.joined()
            assert self._node.provider is not None
            self._node.provider.begin()
        return is_joined

    def _pull(self, last: int) -> Work[bool]:
        before = self._node.disk.height
        if self._stand is None:
            self._stand = self._find_stand()
        work = self.batches(self._stand, last)
        while (batch := (yield from work.next())) is not None:
            yield from self._apply(batch)
            closes = batch.after.header.closes_epoch
            self._stand = self._find_stand() if closes else self._stand.moved(batch.after)
        return self._node.disk.height > before

    def _find_stand(self) -> Stand:
        node = self._node
        assert node.provider is not None
        shelf = cast(Any, node.provider.shelf)
        return find_stand(shelf, shelf, self._parameters, node.disk.starts[node.disk.epoch])

    def batches(self, stand: Stand, last: int, among: Sequence[int] | None = None) -> "Batches":
        """What follows on a stand up to a height, or to the end of the epoch; from these peers where some are named."""
        return Batches(self._sources, self._ranging, self._parameters, stand, last, among)

    def _apply(self, batch: Batch) -> Work[None]:
        """Vertices first, then block after block."""
        with capture_logs():
            self._own_past.look_through(batch.blocks)
        yield from self.keep(batch.blocks)
        for position, block in enumerate(batch.blocks, 1):
            if block.header.height > self._node.disk.height:
                self._node.apply(block, sync=position == len(batch.blocks))
                yield None

    def keep(self, blocks: tuple[CertifiedBlock, ...]) -> Work[None]:
        """Makes the blocks' vertices durable."""
        for block in blocks:
            pairs = zip(block.vertices, block.raws, strict=True)
            self._node.disk.keep(block.header.epoch, [(vertex.ref, raw) for vertex, raw in pairs])
        yield None


def _claims_in(record: EpochRecord, claimed: Mapping[int, int]) -> dict[int, int]:
    """What validators of an epoch claim, by their place in it."""
    named = {f"peer-{seat}": height for seat, height in claimed.items()}
    return {record.peers[peer]: height for peer, height in named.items() if peer in record.peers}


class Batches:
    """Checked blocks in sequence, each span from another peer."""

    def __init__(
        self,
        sources: Sources,
        ranging: Ranging,
        parameters: Any,
        stand: Stand,
        last: int,
        among: Sequence[int] | None,
    ) -> None:
        self._sources = sources
        self._ranging = ranging
        self._parameters = parameters
        self._stand = stand
        self._last = last
        self._among = among
        self._is_over = False

    def next(self) -> Work[Batch | None]:
        """The next ones; None at the end, and when nobody delivers what comes next."""
        if self._stand.height >= self._last or self._is_over:
            return None
        first = self._stand.height + 1
        last = min(self._last, first + SPAN_BLOCKS - 1)
        batch = yield from self._sources.pursue(
            lambda: self._able(first, last) or self._able(first, first),
            BLOCKS,
            RangeRequest(first, 0, last - first + 1, 0).encode(),
            lambda peer, raw: self._check(peer, raw, last - first + 1),
        )
        if batch is not None:
            self._stand = self._stand.moved(batch.after)
            self._is_over = batch.after.header.closes_epoch
        return batch

    def _able(self, first: int, last: int) -> list[int]:
        return [peer for peer in self._sources.able(first, last) if self._among is None or peer in self._among]

    def _check(self, peer: int, raw: bytes, count: int) -> Batch | None:
        """None when it brought nothing. Raises Rejection."""
        answer = decode_answer(raw, count, self._parameters)
        self._sources.claims[peer] = Bounds(answer.certified, answer.lowest)
        if not answer.blocks:
            return None
        checked = self._ranging._check(self._stand, answer)
        if checked.rest is not None:
            raise Rejection(RejectionReason.MALFORMED, f"{peer} says that a block goes on: all fit into answers here")
        return checked.batch
