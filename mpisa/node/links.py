"""What authorities say to each other: frames on the long-lived links, and questions with answers.

A frame is one byte of kind and a body: `V` a vertex, `S` an execution signature of the sender. Requests: `ancestors`
(vertices by reference) and `range` (vertices from a round on), answered from the store within bounds. Vertices are
verified in one worker thread before the engine sees them; a frame that breaks a rule raises Rejection, and the
network then disconnects its sender.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import structlog

from consensus.dag.validation import verify_vertex
from consensus.dag.vertex import MAX_HEIGHT, MAX_ROUND, ExecutionSignature, VertexRef
from consensus.events import AncestorsUnavailable, ExecutionSignatureReceived, RangeEnded, VertexReceived
from mpisa.node.stages import Stage, Stages
from mpisa.primitives import codec
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason
from mpisa.primitives.identifiers import AuthorityIndex, Height, Round

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from consensus.dag.committee import Committee
    from consensus.dag.vertex import Vertex
    from consensus.parameters import Parameters
    from mpisa.network.ports import Network, PeerId
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.node.inbox import Inbox

VERTEX_FRAME, SIGNATURE_FRAME = b"V", b"S"
ANCESTORS, RANGE = "ancestors", "range"
ANSWER_BYTES = 8 << 20
ANSWER_VERTICES = 8_192
MAX_REQUESTS = 64
"""Questions to peers in flight at once."""

REQUEST_TIMEOUT_S = 5.0
SIGNATURE_BYTES = 64
DIGEST_BYTES = 32

log = structlog.get_logger(__name__)


def encode_signature(signature: ExecutionSignature) -> bytes:
    """The body of an `S` frame; whose it is follows from the link."""
    return codec.encode((signature.height, signature.header_hash, signature.signature))


def decode_signature(body: bytes, sender: AuthorityIndex) -> ExecutionSignature:
    """The inverse of encode_signature. Raises Rejection."""
    items = codec.expect_tuple(codec.decode(body, max_bytes=256, max_depth=1), "execution signature", length=3)
    return ExecutionSignature(
        Height(codec.expect_int(items[0], "height", 1, MAX_HEIGHT)),
        codec.expect_bytes(items[1], "header hash", length=DIGEST_BYTES),
        sender,
        codec.expect_bytes(items[2], "signature", length=SIGNATURE_BYTES),
    )


def encode_refs(refs: Iterable[VertexRef]) -> bytes:
    """The body of an `ancestors` request."""
    return codec.encode(tuple((ref.round, ref.author, ref.id) for ref in refs))


def decode_refs(body: bytes, limit: int) -> list[VertexRef]:
    """The inverse of encode_refs. Raises Rejection."""
    value = codec.decode(body, max_bytes=64 * (limit + 1), max_depth=2)
    refs = []
    for item in codec.expect_tuple(value, "references", limit):
        fields = codec.expect_tuple(item, "reference", length=3)
        refs.append(
            VertexRef(
                Round(codec.expect_int(fields[0], "round", 0, MAX_ROUND)),
                AuthorityIndex(codec.expect_int(fields[1], "author", 0, 1 << 16)),
                codec.expect_bytes(fields[2], "id", length=DIGEST_BYTES),
            )
        )
    return refs


class Links:
    """See the module. Everything belongs to the loop; verification runs in `verifier`."""

    def __init__(
        self,
        network: Network,
        peers: Sequence[PeerId],
        committee: Committee,
        chain_hash: bytes,
        parameters: Parameters,
        store: ConsensusStore,
        inbox: Inbox,
        verifier: Executor,
        stages: Stages | None = None,
    ) -> None:
        self._network = network
        self._peers = tuple(peers)
        self._indices: Mapping[PeerId, AuthorityIndex] = {
            peer: AuthorityIndex(index) for index, peer in enumerate(peers)
        }
        self._committee = committee
        self._chain_hash = chain_hash
        self._parameters = parameters
        self._store = store
        self._inbox = inbox
        self._verifier = verifier
        self._stages = stages or Stages()
        self._requests: set[asyncio.Task[object]] = set()
        self.vertices_received = 0
        self.frames_rejected = 0

    def attach(self) -> None:
        """Takes the network's frames and requests from now on."""
        links = self._network.authorities
        links.set_handler(self._on_frame)
        links.set_request_handler(ANCESTORS, self._answer_ancestors)
        links.set_request_handler(RANGE, self._answer_range)

    async def broadcast_vertex(self, raw: bytes) -> None:
        """To every other authority that is linked."""
        await self._network.authorities.broadcast(VERTEX_FRAME + raw)

    async def broadcast_signature(self, signature: ExecutionSignature) -> None:
        """To every other authority that is linked."""
        await self._network.authorities.broadcast(SIGNATURE_FRAME + encode_signature(signature))

    async def _on_frame(self, peer: PeerId, frame: bytes) -> None:
        try:
            sender = self._indices.get(peer)
            if sender is None:
                raise Rejection(RejectionReason.UNKNOWN_AUTHORITY, f"{peer} is no authority of this chain")
            kind, body = frame[:1], frame[1:]
            if kind == VERTEX_FRAME:
                (vertex,) = await self._verify([body])
                self.vertices_received += 1
                await self._inbox.offer(VertexReceived(sender, vertex))
            elif kind == SIGNATURE_FRAME:
                await self._inbox.offer(ExecutionSignatureReceived(sender, decode_signature(body, sender)))
            else:
                raise Rejection(RejectionReason.MALFORMED, f"frame kind: expected V or S, got {kind!r}")
        except Rejection as rejection:
            self.frames_rejected += 1
            log.warning("bad frame", peer=peer, error=str(rejection))
            raise

    async def _verify(self, raws: Sequence[bytes]) -> list[Vertex]:
        return await asyncio.get_running_loop().run_in_executor(self._verifier, self._verify_all, raws)

    def _verify_all(self, raws: Sequence[bytes]) -> list[Vertex]:
        with self._stages.measure(Stage.VERTEX_CHECKS):
            return [verify_vertex(raw, self._committee, self._chain_hash, self._parameters) for raw in raws]

    async def _answer_ancestors(self, peer: PeerId, body: bytes) -> bytes:
        found: list[bytes] = []
        size = 0
        for ref in decode_refs(body, self._parameters.max_refs_a_request):
            raw = self._store.vertex(ref.round, ref.author, ref.id)
            if raw is not None:
                found.append(raw)
                size += len(raw)
                if size >= ANSWER_BYTES:
                    break
        if not found:
            raise NotFound("none of these vertices is here")
        return codec.encode(tuple(found))

    async def _answer_range(self, peer: PeerId, body: bytes) -> bytes:
        first = codec.expect_int(codec.decode(body, max_bytes=16, max_depth=0), "round", 0, MAX_ROUND)
        last = first + self._parameters.range_rounds
        return codec.encode(tuple(self._store.rounds(first, last, max_bytes=ANSWER_BYTES, limit=ANSWER_VERTICES)))

    def request_ancestors(self, to: AuthorityIndex, refs: tuple[VertexRef, ...]) -> None:
        """Asks in the background; vertices come through the inbox, or AncestorsUnavailable does."""
        if len(self._requests) >= MAX_REQUESTS:
            self._inbox.post(AncestorsUnavailable(refs, to))
        else:
            self._spawn(self._fetch_ancestors(to, refs), f"ancestors from {to}")

    def request_range(self, to: AuthorityIndex, from_round: Round) -> None:
        """Asks in the background; a failure is left to the engine's timer."""
        if len(self._requests) < MAX_REQUESTS:
            self._spawn(self.fetch_range(to, from_round), f"range from {to}")

    def _spawn(self, work: Coroutine[object, object, object], name: str) -> None:
        task: asyncio.Task[object] = asyncio.create_task(work, name=name)
        self._requests.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[object]) -> None:
        self._requests.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("request failed", task=task.get_name(), exc_info=error)

    async def _fetch_ancestors(self, to: AuthorityIndex, refs: tuple[VertexRef, ...]) -> None:
        missing = {ref.id: ref for ref in refs}
        try:
            for vertex in await self._ask(to, ANCESTORS, encode_refs(refs), len(refs)):
                if missing.pop(vertex.id, None) is not None:
                    await self._inbox.offer(VertexReceived(to, vertex))
        except MpisaError as error:
            log.debug("ancestors unavailable", authority=to, error=str(error))
        if missing:
            self._inbox.post(AncestorsUnavailable(tuple(missing.values()), to))

    async def fetch_range(self, to: AuthorityIndex, from_round: Round) -> bool:
        """Asks for vertices from a round on and hands them in; False when nothing came."""
        try:
            vertices = await self._ask(to, RANGE, codec.encode(from_round), ANSWER_VERTICES)
        except MpisaError as error:
            log.info("range unavailable", authority=to, from_round=from_round, error=str(error))
            return False
        for vertex in vertices:
            await self._inbox.offer(VertexReceived(to, vertex))
        await self._inbox.offer(RangeEnded(to))
        return bool(vertices)

    async def _ask(self, to: AuthorityIndex, kind: str, body: bytes, limit: int) -> list[Vertex]:
        answer = await self._network.authorities.request(self._peers[to], kind, body, timeout=REQUEST_TIMEOUT_S)
        value = codec.decode(answer, max_bytes=2 * ANSWER_BYTES + self._parameters.max_vertex_bytes, max_depth=1)
        raws = [codec.expect_bytes(item, "vertex") for item in codec.expect_tuple(value, "vertices", limit)]
        return await self._verify(raws)

    async def close(self) -> None:
        """Cancels questions that are still open."""
        tasks = list(self._requests)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
