"""What authorities say to each other: frames on the long-lived links, and questions with answers.

A frame is one byte of kind and a body: `V` a vertex, `S` an execution signature of the sender. Requests: `ancestors`
(vertices by reference) and `range` (vertices from a round on) of an epoch, answered from the store within bounds.
Vertices are verified in one worker thread before the engine sees them; a frame that breaks a rule raises Rejection, and
the network then disconnects its sender. A peer's authority index is that of the epoch which the frame is about. What is
about an epoch that isn't open here breaks no rule: an older one is over for us, a later one tells that we are late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from consensus.dag.pushing import ANSWER_BYTES, MAX_PUSHED, answer_ancestors
from consensus.dag.validation import verify_in_epochs
from consensus.dag.vertex import MAX_EPOCH, MAX_HEIGHT, MAX_ROUND, ExecutionSignature, Vertex, VertexRef, decode_vertex
from consensus.events import AncestorsUnavailable, ExecutionSignatureReceived, RangeEnded, VertexReceived
from consensus.parameters import MAX_AUTHORITIES
from mpisa.node.stages import Stage, Stages
from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from consensus.dag.judging import Jurisdiction
    from consensus.parameters import Parameters
    from mpisa.network.ports import Network, PeerAddress, PeerId
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.inbox import Inbox

VERTEX_FRAME, SIGNATURE_FRAME = b"V", b"S"
ANCESTORS, RANGE = "ancestors", "range"
ANSWER_VERTICES = 8_192
MAX_REQUESTS = 64
"""Questions to peers in flight at once."""

REQUEST_TIMEOUT_S = 5.0
SIGNATURE_BYTES = 64
DIGEST_BYTES = 32

log = structlog.get_logger(__name__)


def encode_signature(signature: ExecutionSignature, epoch: Epoch) -> bytes:
    """The body of an `S` frame; whose it is follows from the link."""
    return codec.encode((epoch, signature.height, signature.header_hash, signature.signature))


def read_signature(body: bytes) -> tuple[Epoch, Height, bytes, bytes]:
    """Epoch, height, header hash and signature of an `S` frame. Raises Rejection."""
    items = codec.expect_tuple(codec.decode(body, max_bytes=256, max_depth=1), "execution signature", length=4)
    return (
        Epoch(codec.expect_int(items[0], "epoch", 0, MAX_EPOCH)),
        Height(codec.expect_int(items[1], "height", 1, MAX_HEIGHT)),
        codec.expect_bytes(items[2], "header hash", length=DIGEST_BYTES),
        codec.expect_bytes(items[3], "signature", length=SIGNATURE_BYTES),
    )


def encode_refs(epoch: Epoch, refs: Iterable[VertexRef], have: Sequence[int] = ()) -> bytes:
    """The body of an `ancestors` request: what is missing, and the highest round held of each author."""
    return codec.encode((epoch, tuple((ref.round, ref.author, ref.id) for ref in refs), tuple(have)))


def decode_refs(body: bytes, limit: int) -> tuple[Epoch, list[VertexRef], list[int]]:
    """The inverse of encode_refs. Raises Rejection."""
    value = codec.decode(body, max_bytes=64 * (limit + 1) + 9 * MAX_AUTHORITIES, max_depth=3)
    epoch, listed, rounds = codec.expect_tuple(value, "request", length=3)
    refs = []
    for item in codec.expect_tuple(listed, "references", limit):
        fields = codec.expect_tuple(item, "reference", length=3)
        refs.append(
            VertexRef(
                Round(codec.expect_int(fields[0], "round", 0, MAX_ROUND)),
                AuthorityIndex(codec.expect_int(fields[1], "author", 0, 1 << 16)),
                codec.expect_bytes(fields[2], "id", length=DIGEST_BYTES),
            )
        )
    have = [
        codec.expect_int(item, "round", 0, MAX_ROUND) for item in codec.expect_tuple(rounds, "rounds", MAX_AUTHORITIES)
    ]
    return Epoch(codec.expect_int(epoch, "epoch", 0, MAX_EPOCH)), refs, have


@dataclass(frozen=True, slots=True)
class _Table:
    """Who is who in an open epoch."""

    jurisdiction: Jurisdiction
    peers: tuple[PeerId, ...]
    indices: Mapping[PeerId, AuthorityIndex]
    has_seat: bool


class Links:
    """See the module. Everything belongs to the loop; verification runs in `verifier`."""

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        store: ConsensusStore,
        inbox: Inbox,
        verifier: Executor,
        address_of: Callable[[PeerId], PeerAddress],
        stages: Stages | None = None,
    ) -> None:
        self._network = network
        self._parameters = parameters
        self._store = store
        self._inbox = inbox
        self._verifier = verifier
        self._stages = stages or Stages()
        self._address_of = address_of
        self._tables: dict[Epoch, _Table] = {}
        self._requests: set[asyncio.Task[object]] = set()
        self._last: bytes | None = None
        self.vertices_received = 0
        self.frames_rejected = 0
        self.frames_of_other_epochs = 0

    def open(self, jurisdiction: Jurisdiction, peers: Sequence[PeerId], *, has_seat: bool) -> None:
        """Vertices of this epoch are judged from now on. Links are kept to those with whom this node has a seat."""
        indices = {peer: AuthorityIndex(index) for index, peer in enumerate(peers)}
        self._tables[jurisdiction.epoch] = _Table(jurisdiction, tuple(peers), indices, has_seat)
        self._aim()

    def close(self, epoch: Epoch) -> None:
        """The epoch is over for this node; links to those who are only of it end."""
        self._tables.pop(epoch, None)
        self._aim()

    def keep(self, epochs: Container[Epoch]) -> None:
        """Only these are open."""
        for epoch in [epoch for epoch in self._tables if epoch not in epochs]:
            self.close(epoch)

    def peers_of(self, epoch: Epoch) -> tuple[PeerId, ...]:
        """The authorities of an open epoch by index; nobody of another."""
        table = self._tables.get(epoch)
        return () if table is None else table.peers

    def _aim(self) -> None:
        wanted = {peer: None for table in self._tables.values() if table.has_seat for peer in table.peers}
        self._network.authorities.set_authorities([self._address_of(peer) for peer in wanted])

    def attach(self) -> None:
        """Takes the network's frames and requests from now on."""
        links = self._network.authorities
        links.set_handler(self._on_frame)
        links.set_link_observer(self._on_link)
        links.set_request_handler(ANCESTORS, self._answer_ancestors)
        links.set_request_handler(RANGE, self._answer_range)

    async def broadcast_vertex(self, raw: bytes) -> None:
        """To every other authority that is linked, and to each whose link comes up before the next one is made."""
        self._last = VERTEX_FRAME + raw
        await self._network.authorities.broadcast(self._last)

    def _on_link(self, peer: PeerId) -> None:
        """A peer that was cut off gets our last vertex at once: a network that was torn apart may wait for nothing
        else, and the timer that sends it again has grown long meanwhile.
        """
        if self._last is not None:
            self._spawn(self._network.authorities.send(peer, self._last), f"last vertex to {peer}")

    async def broadcast_signature(self, signature: ExecutionSignature, epoch: Epoch) -> None:
        """To every other authority that is linked."""
        await self._network.authorities.broadcast(SIGNATURE_FRAME + encode_signature(signature, epoch))

    async def _on_frame(self, peer: PeerId, frame: bytes) -> None:
        try:
            if not any(peer in table.indices for table in self._tables.values()):
                raise Rejection(RejectionReason.UNKNOWN_AUTHORITY, f"{peer} is no authority of this chain")
            kind, body = frame[:1], frame[1:]
            if kind == VERTEX_FRAME:
                await self._on_vertex(peer, body)
            elif kind == SIGNATURE_FRAME:
                await self._on_signature(peer, body)
            else:
                raise Rejection(RejectionReason.MALFORMED, f"frame kind: expected V or S, got {kind!r}")
        except Rejection as rejection:
            self.frames_rejected += 1
            log.warning("bad frame", peer=peer, error=str(rejection))
            raise

    async def _on_vertex(self, peer: PeerId, body: bytes) -> None:
        found = await asyncio.get_running_loop().run_in_executor(self._verifier, self._judge, body, self._open_here())
        if not isinstance(found, Vertex):
            self._other_epoch(found)
            return
        table = self._tables.get(found.header.epoch)
        if table is not None:
            self.vertices_received += 1
            await self._inbox.offer(VertexReceived(table.indices.get(peer, found.author), found))

    def _judge(self, raw: bytes, open_here: Mapping[Epoch, Jurisdiction]) -> Vertex | Epoch:
        """The vertex, or of which epoch it is where that isn't open."""
        try:
            (vertex,) = self._verify_all([raw], open_here)
        except Rejection as rejection:
            if rejection.reason is not RejectionReason.WRONG_EPOCH:
                raise
            return decode_vertex(raw, self._parameters).header.epoch
        return vertex

    async def _on_signature(self, peer: PeerId, body: bytes) -> None:
        epoch, height, header_hash, signature = read_signature(body)
        table = self._tables.get(epoch)
        if table is None:
            self._other_epoch(epoch)
            return
        sender = table.indices.get(peer)
        if sender is None:
            raise Rejection(RejectionReason.UNKNOWN_AUTHORITY, f"{peer} is no authority of epoch {epoch}")
        signed = ExecutionSignature(height, header_hash, sender, signature)
        await self._inbox.offer(ExecutionSignatureReceived(sender, signed, epoch))

    def _other_epoch(self, epoch: Epoch) -> None:
        self.frames_of_other_epochs += 1
        if epoch > max(self._tables, default=0):
            self._inbox.post_epoch_ahead()

    async def _verify(self, raws: Sequence[bytes]) -> list[Vertex]:
        return await asyncio.get_running_loop().run_in_executor(
            self._verifier, self._verify_all, raws, self._open_here()
        )

    def _open_here(self) -> dict[Epoch, Jurisdiction]:
        return {epoch: table.jurisdiction for epoch, table in self._tables.items()}

    def _verify_all(self, raws: Sequence[bytes], open_here: Mapping[Epoch, Jurisdiction]) -> list[Vertex]:
        with self._stages.measure(Stage.VERTEX_CHECKS):
            return [verify_in_epochs(raw, open_here, self._parameters) for raw in raws]

    async def _answer_ancestors(self, peer: PeerId, body: bytes) -> bytes:
        epoch, refs, have = decode_refs(body, self._parameters.max_refs_a_request)

        def lookup(ref: VertexRef) -> bytes | None:
            return self._store.vertex(epoch, ref.round, ref.author, ref.id)

        found = answer_ancestors(refs, have, lookup, self._parameters)
        if not found:
            raise NotFound("none of these vertices is here")
        return codec.encode(tuple(found))

    async def _answer_range(self, peer: PeerId, body: bytes) -> bytes:
        items = codec.expect_tuple(codec.decode(body, max_bytes=32, max_depth=1), "range", length=2)
        epoch = codec.expect_int(items[0], "epoch", 0, MAX_EPOCH)
        first = codec.expect_int(items[1], "round", 0, MAX_ROUND)
        last = first + self._parameters.range_rounds
        found = self._store.rounds(epoch, first, last, max_bytes=ANSWER_BYTES, limit=ANSWER_VERTICES)
        return codec.encode(tuple(found))

    def request_ancestors(
        self, to: AuthorityIndex, refs: tuple[VertexRef, ...], epoch: Epoch, have: Sequence[int] = ()
    ) -> None:
        """Asks in the background; vertices come through the inbox, or AncestorsUnavailable does."""
        if len(self._requests) >= MAX_REQUESTS:
            self._inbox.post(AncestorsUnavailable(refs, to, epoch))
        else:
            self._spawn(self._fetch_ancestors(to, refs, epoch, have), f"ancestors from {to}")

    def request_range(self, to: AuthorityIndex, from_round: Round, epoch: Epoch) -> None:
        """Asks in the background; a failure is left to the engine's timer."""
        if len(self._requests) < MAX_REQUESTS:
            self._spawn(self.fetch_range(to, from_round, epoch), f"range from {to}")

    def _spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work, name=name)
        self._requests.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("request failed", task=task.get_name(), exc_info=error)

    async def _fetch_ancestors(
        self, to: AuthorityIndex, refs: tuple[VertexRef, ...], epoch: Epoch, have: Sequence[int]
    ) -> None:
        missing = {ref.id: ref for ref in refs}
        try:
            body = encode_refs(epoch, refs, have)
            for vertex in await self._ask(to, epoch, ANCESTORS, body, len(refs) + MAX_PUSHED):
                missing.pop(vertex.id, None)
                await self._inbox.offer(VertexReceived(to, vertex))
        except MpisaError as error:
            log.debug("ancestors unavailable", authority=to, epoch=epoch, error=str(error))
        if missing:
            self._inbox.post(AncestorsUnavailable(tuple(missing.values()), to, epoch))

    async def fetch_range(self, to: AuthorityIndex, from_round: Round, epoch: Epoch) -> bool:
        """Asks for vertices from a round on and hands them in; False when nothing came."""
        try:
            vertices = await self._ask(to, epoch, RANGE, codec.encode((epoch, from_round)), ANSWER_VERTICES)
        except MpisaError as error:
            log.info("range unavailable", authority=to, epoch=epoch, from_round=from_round, error=str(error))
            return False
        for vertex in vertices:
            await self._inbox.offer(VertexReceived(to, vertex))
        await self._inbox.offer(RangeEnded(to, epoch))
        return bool(vertices)

    async def _ask(self, to: AuthorityIndex, epoch: Epoch, kind: str, body: bytes, limit: int) -> list[Vertex]:
        """Vertices of the epoch that was asked about. Raises MpisaError."""
        table = self._tables.get(epoch)
        if table is None:
            raise NotFound(f"epoch {epoch} isn't open here")
        answer = await self._network.authorities.request(table.peers[to], kind, body, timeout=REQUEST_TIMEOUT_S)
        value = codec.decode(answer, max_bytes=2 * ANSWER_BYTES + self._parameters.max_vertex_bytes, max_depth=1)
        raws = [codec.expect_bytes(item, "vertex") for item in codec.expect_tuple(value, "vertices", limit)]
        return [vertex for vertex in await self._verify(raws) if vertex.header.epoch == epoch]

    async def stop(self) -> None:
        """Cancels questions that are still open."""
        tasks = list(self._requests)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
