"""How a node behaves towards others: honestly, or by one of the Byzantine strategies (docs/protocol.md, section 14).

A Byzantine node runs the real engine too, which gives it a plausible vertex to start from; its strategy changes what
leaves it: to whom a vertex goes, which, and when, what it signs, what it answers, and what it sends unasked. All it
can't do is sign for others. Strategies are drawn by name in a scenario.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from consensus.dag.pushing import answer_ancestors
from consensus.dag.vertex import (
    ExecutionSignature,
    Vertex,
    VertexHeader,
    VertexRef,
    encode_vertex,
    evidence_root,
    payload_root,
    sign_vertex,
)
from consensus.identity import Seat
from mpisa.ledger.payload import encode_payload
from mpisa.primitives.digest import sha256
from mpisa.primitives.header import certificate_digest
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round
from mpisa.primitives.secp256k1 import SIGNATURE_BYTES
from tests.simulator.lies import lie_about

if TYPE_CHECKING:
    from tests.simulator.node import Node

Sent = tuple[int, bytes, int]  # (peer, bytes, extra delay in ms)


class Strategy:
    """Honest: the same to everyone, at once, and the truth when asked."""

    is_byzantine: ClassVar[bool] = False
    offends: ClassVar[bool] = False

    def start(self, node: "Node") -> None:
        """The node started."""

    def vertices(self, node: "Node", vertex: Vertex, raw: bytes) -> Iterable[Sent]:
        """What goes where in place of the own vertex."""
        return [(peer, raw, 0) for peer in node.peers()]

    def signatures(
        self, node: "Node", signature: ExecutionSignature, epoch: Epoch
    ) -> Iterable[tuple[int, ExecutionSignature]]:
        """What goes where in place of the own execution signature."""
        return [(peer, signature) for peer in node.peers()]

    def ancestors(
        self, node: "Node", epoch: Epoch, refs: Sequence[VertexRef], have: Sequence[int]
    ) -> list[bytes] | None:
        """The answer to a question for vertices; None is no answer."""
        return answer_ancestors(refs, have, node.disk.of(epoch).raws.get, node.world.scenario.parameters)

    def range(self, node: "Node", epoch: Epoch, first: int, rounds: int) -> list[bytes] | None:
        """The answer to a question for a range; None is no answer."""
        return node.disk.of(epoch).from_round(first, rounds)

    def provide(self, node: "Node", kind: str, body: bytes) -> bytes | None:
        """The answer to who is behind and asks for certified blocks or a snapshot; None is no answer."""
        return node.provider.answer(kind, body) if node.provider is not None else None


class Byzantine(Strategy):
    """What the faulty ones share: how to make a twin."""

    is_byzantine = True

    def twin(
        self, node: "Node", vertex: Vertex, number: int = 1, parents: tuple[VertexRef, ...] | None = None
    ) -> bytes:
        """Another vertex for the same round, kept so that it can be served."""
        payload = encode_payload((b"twin %d of node %d" % (number, node.seat),))
        header = replace(
            vertex.header,
            timestamp_ms=vertex.timestamp_ms + number,
            payload_root=payload_root(payload),
            payload_length=len(payload),
            parents=vertex.parents if parents is None else parents,
        )
        twin = sign_vertex(header, payload, vertex.evidence, seat_of(node, header.epoch).key)
        raw = encode_vertex(twin)
        node.disk.of(header.epoch).add(twin.ref, raw)
        node.offended = True
        return raw


class Equivocate(Byzantine):
    """A twin for every vertex, each to half of the others."""

    offends = True

    def vertices(self, node: "Node", vertex: Vertex, raw: bytes) -> Iterable[Sent]:
        fork = self.twin(node, vertex)
        offset = node.world.random.randint(0, 1)
        return [(peer, fork if (place + offset) % 2 else raw, 0) for place, peer in enumerate(node.peers())]


class SplitParents(Byzantine):
    """Different parents to different peers: each sees the node build on others, vote for others."""

    offends = True

    def vertices(self, node: "Node", vertex: Vertex, raw: bytes) -> Iterable[Sent]:
        return [(peer, self._fork(node, vertex, peer) or raw, 0) for peer in node.peers()]

    def _fork(self, node: "Node", vertex: Vertex, peer: int) -> bytes | None:
        committee = node.open[vertex.header.epoch]
        parents = list(vertex.parents)
        order = [ref for ref in parents[1:] if ref.round == vertex.round - 1]
        for ref in sorted(order, key=lambda item: (item.author + peer) % len(committee)):
            kept = [item for item in parents if item != ref]
            stake = committee.stake_of(item.author for item in kept if item.round == vertex.round - 1)
            if committee.is_quorum(stake):
                parents = kept
        if len(parents) == len(vertex.parents):
            return None
        return self.twin(node, vertex, peer + 1, tuple(parents))


class ForgeHeaders(Byzantine):
    """The right execution signature to some, one over another header hash to the others, and noise to all."""

    offends = True

    def signatures(
        self, node: "Node", signature: ExecutionSignature, epoch: Epoch
    ) -> Iterable[tuple[int, ExecutionSignature]]:
        other = sha256(b"another header", signature.header_hash)
        key = node.header_key(node.open[epoch])
        assert key is not None, "who signs has a place"
        digest = certificate_digest(node.world.ledger.chain_hash, signature.height, other)
        forged = replace(signature, header_hash=other, signature=key.sign_digest(digest))
        noise = ExecutionSignature(Height(signature.height + 1), other, signature.authority, bytes(SIGNATURE_BYTES))
        node.offended = node.offended or len(node.peers()) > 1
        for place, peer in enumerate(node.peers()):
            yield peer, forged if place % 2 else signature
            yield peer, noise


class Withhold(Byzantine):
    """Its vertices go to one peer alone, and it answers no question: others must get them from that peer."""

    def vertices(self, node: "Node", vertex: Vertex, raw: bytes) -> Iterable[Sent]:
        peers = node.peers()
        return [(peers[vertex.round % len(peers)], raw, 0)]

    def ancestors(
        self, node: "Node", epoch: Epoch, refs: Sequence[VertexRef], have: Sequence[int]
    ) -> list[bytes] | None:
        return None

    def range(self, node: "Node", epoch: Epoch, first: int, rounds: int) -> list[bytes] | None:
        return None

    def provide(self, node: "Node", kind: str, body: bytes) -> bytes | None:
        return None


class Late(Byzantine):
    """Every vertex as late as it can be without missing the round: at the edge of the others' timeout."""

    def vertices(self, node: "Node", vertex: Vertex, raw: bytes) -> Iterable[Sent]:
        parameters = node.world.scenario.parameters
        edge = max(0, parameters.round_timeout_ms - parameters.min_round_delay_ms)
        return [(peer, raw, edge + 7 * (peer % 5) - 14) for peer in node.peers()]


class LieInAnswers(Byzantine):
    """Other vertices than those asked for, spoilt ones, or none; ranges with gaps and foreign bytes."""

    def ancestors(
        self, node: "Node", epoch: Epoch, refs: Sequence[VertexRef], have: Sequence[int]
    ) -> list[bytes] | None:
        random = node.world.random
        known = list(node.disk.of(epoch).raws.values())
        answer = [known[random.randrange(len(known))] for _ in refs] if known else []
        return [raw if random.random() < 0.5 else raw[:-1] + bytes((raw[-1] ^ 1,)) for raw in answer]

    def range(self, node: "Node", epoch: Epoch, first: int, rounds: int) -> list[bytes] | None:
        random = node.world.random
        return [b"\x94", *(raw for raw in node.disk.of(epoch).from_round(first, rounds) if random.random() < 0.5)]

    def provide(self, node: "Node", kind: str, body: bytes) -> bytes | None:
        truth = super().provide(node, kind, body)
        return None if truth is None else lie_about(kind, truth, node.world.scenario.parameters, node.world.random)


class Nuisance(Byzantine):
    """Sends things unasked, until the network heals."""

    every_ms: ClassVar[int]

    def start(self, node: "Node") -> None:
        self._tick(node, node.life)

    def _tick(self, node: "Node", life: int) -> None:
        world = node.world
        if node.life != life or world.now >= world.scenario.heal_ms or node.engine is None:
            return
        if node.engine.own is not None:
            self.annoy(node, node.engine.epoch)
        world.later(self.every_ms, lambda: self._tick(node, life))

    def annoy(self, node: "Node", epoch: Epoch) -> None:
        """Once more."""


class Flood(Nuisance):
    """A stream of well-formed vertices whose parents nobody has ever seen, now and far above."""

    every_ms = 40
    at_once: ClassVar[int] = 12

    def annoy(self, node: "Node", epoch: Epoch) -> None:
        assert node.engine is not None
        top = node.engine.status().open_round
        for _ in range(self.at_once):
            raw = self._junk(node, epoch, top + node.world.random.randint(1, 30))
            for peer in node.peers():
                node.world.send_vertex(node.seat, peer, raw)

    def _junk(self, node: "Node", epoch: Epoch, number: int) -> bytes:
        seat = seat_of(node, epoch)
        order = [seat.index, *(index for index in range(len(node.open[epoch])) if index != seat.index)]
        parents = tuple(
            VertexRef(Round(number - 1), AuthorityIndex(author), node.world.random.randbytes(32)) for author in order
        )
        header = VertexHeader(
            chain_hash=node.world.ledger.chain_hash,
            epoch=epoch,
            round=Round(number),
            author=seat.index,
            timestamp_ms=node.clock(),
            parents=parents,
            payload_root=payload_root(b""),
            payload_length=0,
            execution_signatures=(),
            evidence_root=evidence_root(()),
        )
        return encode_vertex(sign_vertex(header, b"", (), seat.key))


class Replay(Nuisance):
    """Vertices of the past, of other epochs and of another chain, its own and others', again and again."""

    every_ms = 60

    def annoy(self, node: "Node", epoch: Epoch) -> None:
        world, random = node.world, node.world.random
        known = [raw for vertices in node.disk.vertices.values() for raw in vertices.raws.values()]
        if not known:
            return
        for peer in node.peers():
            world.send_vertex(node.seat, peer, known[random.randrange(len(known))])
        vertex, seat = world.decode(known[random.randrange(len(known))]), seat_of(node, epoch)
        changes: dict[str, object] = random.choice(
            [
                {"epoch": Epoch(epoch + 1)},
                {"epoch": Epoch(epoch + 7)},
                {"epoch": epoch, "chain_hash": sha256(b"another chain")},
            ]
        )
        header = replace(vertex.header, author=seat.index, **changes)  # type: ignore[arg-type]
        raw = encode_vertex(sign_vertex(header, vertex.payload, vertex.evidence, seat.key))
        world.send_vertex(node.seat, random.choice(node.peers()), raw)


class ForkBomb(Byzantine):
    """Many twins a round, each on other twins of the round before, its own and its accomplices': a tree that would
    grow with every round, over the whole window that is kept.
    """

    offends = True
    twins: ClassVar[int] = 12

    def vertices(self, node: "Node", vertex: Vertex, raw: bytes) -> Iterable[Sent]:
        world, epoch = node.world, vertex.header.epoch
        peers = node.peers()
        sent: list[Sent] = [(peer, raw, 0) for peer in peers]
        known = world.twins.setdefault((epoch, vertex.round), {}).setdefault(vertex.author, [vertex.ref])
        for number in range(1, self.twins):
            parents = tuple(self._other(node, epoch, ref, number) for ref in vertex.parents)
            twin = self.twin(node, vertex, number, parents)
            known.append(world.decode(twin).ref)
            sent.append((peers[number % len(peers)], twin, 0))
        return sent

    def _other(self, node: "Node", epoch: Epoch, ref: VertexRef, number: int) -> VertexRef:
        twins = node.world.twins.get((epoch, ref.round), {}).get(ref.author)
        return twins[number % len(twins)] if twins else ref


class Mixed(Byzantine):
    """Another strategy for every message."""

    offends = True

    def __init__(self) -> None:
        self._parts: tuple[Byzantine, ...] = (Equivocate(), SplitParents(), Withhold(), Late(), LieInAnswers())

    def _any(self, node: "Node") -> Byzantine:
        return self._parts[node.world.random.randrange(len(self._parts))]

    def vertices(self, node: "Node", vertex: Vertex, raw: bytes) -> Iterable[Sent]:
        return self._any(node).vertices(node, vertex, raw)

    def signatures(
        self, node: "Node", signature: ExecutionSignature, epoch: Epoch
    ) -> Iterable[tuple[int, ExecutionSignature]]:
        return ForgeHeaders().signatures(node, signature, epoch)

    def ancestors(
        self, node: "Node", epoch: Epoch, refs: Sequence[VertexRef], have: Sequence[int]
    ) -> list[bytes] | None:
        return self._any(node).ancestors(node, epoch, refs, have)

    def range(self, node: "Node", epoch: Epoch, first: int, rounds: int) -> list[bytes] | None:
        return self._any(node).range(node, epoch, first, rounds)

    def provide(self, node: "Node", kind: str, body: bytes) -> bytes | None:
        return self._any(node).provide(node, kind, body)


def seat_of(node: "Node", epoch: Epoch) -> Seat:
    """The node's place in an epoch in which it signs."""
    held = node.seat_in(node.open[epoch])
    assert held is not None, "who signs has a place"
    return held


HONEST = Strategy()
STRATEGIES: dict[str, type[Byzantine]] = {
    "equivocate": Equivocate,
    "split-parents": SplitParents,
    "forge-headers": ForgeHeaders,
    "withhold": Withhold,
    "late": Late,
    "lie-in-answers": LieInAnswers,
    "flood": Flood,
    "replay": Replay,
    "fork-bomb": ForkBomb,
    "mixed": Mixed,
}
