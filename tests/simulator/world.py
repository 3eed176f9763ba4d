"""The simulated world: real consensus and the real ledger, a virtual clock, one seed (docs/protocol.md, section 14).

Everything that happens is drawn from the seed and happens in the order of (time, sequence number), so a seed replays
bit for bit. Nodes (`node.py`) keep nothing but their disk across a crash; Byzantine ones follow a strategy
(`strategies.py`). What must hold after every run is in `invariants.py`.
"""

import heapq
from collections import deque
from collections.abc import Callable
from random import Random

from consensus import events as e
from consensus.dag.validation import verify_in_epochs
from consensus.dag.vertex import Vertex, VertexRef, decode_vertex
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import verify_certificate
from mpisa.primitives.identifiers import Address, Epoch
from tests.simulator.clients import Client, Customer, Operator
from tests.simulator.keys import ANCHOR, CHAIN_HASH, committee_of, keys_of
from tests.simulator.ledger import Ledger, genesis_of
from tests.simulator.memo import remembered_signatures
from tests.simulator.network import Links
from tests.simulator.node import Node
from tests.simulator.scenario import Change, Crash, Jump, Scenario
from tests.simulator.strategies import HONEST, STRATEGIES

LOG_LINES = 4_000
FIRST_PAUSE_MS = 400

__all__ = ["ANCHOR", "CHAIN_HASH", "Node", "World", "committee_of", "keys_of"]


class World:
    """All nodes, the links between them, and the queue of what is to come."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.random = Random(scenario.seed)
        self.now = 0
        self.ledger = Ledger(genesis_of(scenario.powers, scenario.min_epoch_ms), scenario.parameters)
        self.links = Links(self.random, scenario.count, scenario.faults, scenario.cuts)
        self.holders: dict[Address, int] = {}
        strategies = {seat: STRATEGIES[name]() for seat, name in scenario.byzantine}
        self.nodes = [Node(self, seat, strategies.get(seat, HONEST)) for seat in range(scenario.count)]
        self.signed: dict[tuple[Epoch, Address, int], set[bytes]] = {}
        self.headers_signed: dict[tuple[Address, int], set[bytes]] = {}
        self.twins: dict[tuple[Epoch, int], dict[int, list[VertexRef]]] = {}
        self.faults: list[tuple[int, int, Rejection]] = []
        self.rejected: dict[tuple[int, str], int] = {}
        self.dropped: list[tuple[int, int, str]] = []
        self.pruned: dict[Epoch, dict[VertexRef, bytes]] = {}
        self.clients = [Client(self, number) for number in range(scenario.clients)]
        self.operators = {seat: Operator(self, seat) for seat in range(scenario.count)}
        self.waiting: dict[bytes, Customer] = {}
        self.acknowledged: dict[bytes, int] = {}
        self.submitted = 0
        self.messages = 0
        self.log: deque[tuple[int, int | None, str]] = deque(maxlen=LOG_LINES)
        self._decoded: dict[bytes, Vertex | Rejection] = {}
        self._verified: dict[bytes, Vertex | Rejection] = {}
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        self._sequence = 0

    # Time.

    def later(self, delay_ms: int, action: Callable[[], object]) -> None:
        """Do this then."""
        self._sequence += 1
        heapq.heappush(self._queue, (self.now + delay_ms, self._sequence, action))

    def run(self, look: Callable[[], object] | None = None, every_ms: int = 500) -> "World":
        """The scenario up to where its faults end; `look` is called every so often."""
        scenario = self.scenario
        late = {arrival.seat: arrival.at_ms for arrival in scenario.arrivals}
        for node in self.nodes:
            if node.seat not in scenario.silent:
                self.later(late.get(node.seat, self.random.randint(0, 50)), node.boot)
        for crash in scenario.crashes:
            self.later(crash.at_ms, lambda crash=crash: self._plan_crash(crash))
        for jump in scenario.jumps:
            self.later(jump.at_ms, lambda jump=jump: self._jump(jump))
        for change in scenario.changes:
            self.later(change.at_ms, lambda change=change: self._change(change))
        for cut in scenario.cuts:
            text = f"cut {sorted(cut.senders)} -> {sorted(cut.receivers)}"
            self.later(cut.at_ms, lambda text=text: self.note(None, text))
            self.later(cut.until_ms, lambda text=text: self.note(None, f"{text} ends"))
        for client in self.clients:
            self.later(self.random.randint(100, 100 + min(scenario.pause_ms, FIRST_PAUSE_MS)), client.next)
        while look is not None and self.now + every_ms < scenario.heal_ms:
            self.advance(self.now + every_ms)
            look()
        self.advance(scenario.heal_ms)
        return self

    def advance(self, until_ms: int) -> None:
        """Run until this time."""
        queue, pop = self._queue, heapq.heappop
        with remembered_signatures():
            while queue and queue[0][0] <= until_ms:
                self.now, _, action = pop(queue)
                action()
        self.now = until_ms

    def note(self, seat: int | None, text: str) -> None:
        """A line for whoever reads what happened."""
        self.log.append((self.now, seat, text))

    def honest(self) -> list[Node]:
        """Those that keep to the protocol and run."""
        silent = self.scenario.silent
        return [node for node in self.nodes if not node.strategy.is_byzantine and node.seat not in silent]

    def known(self) -> list[Node]:
        """Whom a client hands something to: whoever is there, where nodes are away for long; else any."""
        there = [node for node in self.nodes if node.is_up]
        return there if there and self.scenario.history is not None else self.nodes

    def least_certified(self, node: Node) -> int:
        """What all others have certified now, and so whoever is asked will say; 0 where some may lie or forget."""
        scenario = self.scenario
        others = [other for other in self.nodes if other is not node and other.is_seated()]
        if scenario.byzantine or {crash.seat for crash in scenario.crashes} - {node.seat}:
            return 0
        return min((other.disk.certified for other in others), default=0)

    # The network.

    def send(self, sender: int, receiver: int, event: e.Event, extra_ms: int = 0) -> None:
        """One message over a link."""
        self.messages += 1
        node = self.nodes[receiver]
        for arrival in self.links.arrivals(sender, receiver, self.now):
            self.later(arrival - self.now + extra_ms, lambda: node.handle(event))

    def send_vertex(self, sender: int, receiver: int, raw: bytes, extra_ms: int = 0) -> None:
        """Bytes of a vertex over a link."""
        self.messages += 1
        node = self.nodes[receiver]
        for arrival in self.links.arrivals(sender, receiver, self.now):
            self.later(arrival - self.now + extra_ms, lambda: self.arrive(sender, node, raw))

    def arrive(self, sender: int, node: Node, raw: bytes) -> None:
        """The receiver's shell verifies what came, and takes nothing from what is wrong."""
        if node.engine is None:
            return
        try:
            vertex = self.decode(raw)
            epoch = vertex.header.epoch
            if epoch in node.open:
                vertex = self.verify(node, raw)
                node.handle(e.VertexReceived(self._index(sender, node, vertex), vertex))
            elif epoch > node.engine.epoch:
                node.handle(e.EpochAhead())
        except Rejection as rejection:
            self._reject(sender, rejection)

    def _index(self, sender: int, node: Node, vertex: Vertex) -> int:
        held = self.nodes[sender].seat_in(node.open[vertex.header.epoch])
        return vertex.author if held is None else held.index

    def decode(self, raw: bytes) -> Vertex:
        """The vertex of these bytes, remembered. Raises Rejection."""
        return self._remembered(self._decoded, raw, lambda: decode_vertex(raw, self.scenario.parameters))

    def verify(self, node: Node, raw: bytes) -> Vertex:
        """As a shell does on receipt; the verdict on the same bytes is remembered, for what it is judged by is the same
        on every node that has the epoch open. Raises Rejection.
        """
        assert node.engine is not None
        engine = node.engine
        return self._remembered(
            self._verified, raw, lambda: verify_in_epochs(raw, engine.jurisdictions, self.scenario.parameters)
        )

    def _remembered(self, verdicts: dict[bytes, Vertex | Rejection], raw: bytes, judge: Callable[[], Vertex]) -> Vertex:
        known = verdicts.get(raw)
        if known is None:
            try:
                known = judge()
            except Rejection as rejection:
                known = rejection
            verdicts[raw] = known
        if isinstance(known, Rejection):
            raise known
        return known

    def _ask(self, node: Node, to: int, epoch: Epoch, answer: Callable[[Node], Callable[[], object] | None]) -> None:
        """A question over the link there; `answer` gives what happens here when it is back, None for silence."""
        peer = self.nodes[self.holders[node.open[epoch][to].address]]

        def reply() -> None:
            arrive = answer(peer) if peer.is_up else None
            for arrival in self.links.arrivals(peer.seat, node.seat, self.now) if arrive is not None else ():
                self.later(arrival - self.now, arrive)

        for arrival in self.links.arrivals(node.seat, peer.seat, self.now):
            self.later(arrival - self.now, reply)

    def ask_ancestors(self, node: Node, request: e.RequestAncestors) -> None:
        """The other side answers from its disk, recent ancestors too; what is wrong or missing is unavailable."""

        def answer(peer: Node) -> Callable[[], object] | None:
            raws = peer.strategy.ancestors(peer, request.epoch, request.refs, request.have)
            return None if raws is None else lambda: arrive(peer, raws)

        def arrive(peer: Node, raws: list[bytes]) -> None:
            missing = {ref.id: ref for ref in request.refs}
            for vertex in self._verify_all(node, peer.seat, raws):
                missing.pop(vertex.id, None)
                node.handle(e.VertexReceived(request.to, vertex))
            if missing:
                node.handle(e.AncestorsUnavailable(tuple(missing.values()), request.to, request.epoch))

        self._ask(node, request.to, request.epoch, answer)

    def ask_range(self, node: Node, request: e.RequestRange) -> None:
        """A range comes over a stream: in order, all at once; a range with anything wrong in it is dropped. It also
        says how far the other side is: whoever follows would else not learn that an epoch is over.
        """
        rounds = self.scenario.parameters.range_rounds

        def answer(peer: Node) -> Callable[[], object] | None:
            raws = peer.strategy.range(peer, request.epoch, request.from_round, rounds)
            epoch = request.epoch if peer.engine is None else peer.engine.epoch
            return None if raws is None else lambda: arrive(peer, raws, epoch)

        def arrive(peer: Node, raws: list[bytes], epoch: Epoch) -> None:
            if node.engine is not None and epoch > node.engine.epoch:
                node.handle(e.EpochAhead())
            vertices = self._verify_all(node, peer.seat, raws)
            for vertex in vertices:
                node.handle(e.VertexReceived(request.to, vertex))
            if vertices or not raws:
                node.handle(e.RangeEnded(request.to, request.epoch))

        self._ask(node, request.to, request.epoch, answer)

    def ask_certificate(self, node: Node, request: e.RequestCertificate) -> None:
        """The certificate of a closing header, from a store."""

        def answer(peer: Node) -> Callable[[], object] | None:
            certificate = peer.disk.certificates.get(request.height)
            if certificate is None or peer.strategy.is_byzantine:
                return None
            return lambda: node.handle(e.CertificateReceived(request.height, certificate))

        self._ask(node, request.to, request.epoch, answer)

    def ask_source(self, node: Node, to: int, kind: str, body: bytes, arrive: Callable[[bytes], None]) -> None:
        """A question of a node that is behind, for certified blocks or of a snapshot; the peer's strategy answers."""
        peer = self.nodes[to]
        self.messages += 1

        def reply() -> None:
            raw = peer.strategy.provide(peer, kind, body) if peer.is_up else None
            if raw is not None:
                for arrival in self.links.arrivals(to, node.seat, self.now):
                    self.later(arrival - self.now, lambda: arrive(raw))

        for arrival in self.links.arrivals(node.seat, to, self.now):
            self.later(arrival - self.now, reply)

    def forward(self, node: Node, raw: bytes) -> None:
        """A node without a place hands a transaction to one that has."""
        peers = node.peers()
        if not peers:
            return
        peer = self.nodes[self.random.choice(peers)]
        for arrival in self.links.arrivals(node.seat, peer.seat, self.now):
            self.later(
                arrival - self.now, lambda: peer.engine is not None and peer.engine.own is not None and peer.submit(raw)
            )

    def _verify_all(self, node: Node, sender: int, raws: list[bytes]) -> list[Vertex]:
        if node.engine is None:
            return []
        try:
            return [self.verify(node, raw) for raw in raws if self.decode(raw).header.epoch in node.open]
        except Rejection as rejection:
            self._reject(sender, rejection)
            return []

    def _reject(self, sender: int, rejection: Rejection) -> None:
        key = (sender, rejection.reason.value)
        self.rejected[key] = self.rejected.get(key, 0) + 1

    # What nodes report.

    def certified(self, node: Node, certified: e.Certified) -> None:
        """Check the certificate as a light client would, and tell the clients, who believe an honest node."""
        block = node.history[certified.height]
        committee = block.eras[block.header.epoch].committee
        verify_certificate(block.header, certified.certificate, committee.validator_set)
        node.certified[certified.height] = certified.header_hash
        if node.strategy.is_byzantine:
            return
        for raw in block.transactions:
            customer = self.waiting.pop(raw, None)
            if customer is not None:
                self.acknowledged[raw] = certified.height
                customer.done()

    def _change(self, change: Change) -> None:
        self.operators[change.seat].ask(change)

    def _plan_crash(self, crash: Crash) -> None:
        node = self.nodes[crash.seat]
        node.crash_after = crash.effects
        node.loss = crash.loss
        self.later(crash.down_ms, lambda: self._restart(node, crash))

    def _restart(self, node: Node, crash: Crash) -> None:
        if node.is_up:
            node.crash(crash.loss)
        node.boot()

    def _jump(self, jump: Jump) -> None:
        self.nodes[jump.seat].skew_ms += jump.by_ms
        self.note(jump.seat, f"its clock jumps by {jump.by_ms} ms")
