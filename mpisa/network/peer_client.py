"""The client of other nodes' peer ports. One pool of TLS connections; each handshake checks the peer id before any
request is sent.

Our own peer id is proved once a peer (a bearer token, asked for again when it ran out). What comes back is bounded by
what was asked for. Errors: Unreachable (no address, no connection, wrong peer, broken off), TimedOut, or what the
peer answered.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from yarl import URL

from mpisa.network import wire
from mpisa.network.exchange import BatchAnswer
from mpisa.network.gate import Gate
from mpisa.network.peer_auth import ClientAuthenticator, to_base64
from mpisa.network.peer_id import HostKey
from mpisa.network.ports import NetworkLimits, NetworkStats, PeerAddress, PeerId
from mpisa.network.tls import client_context
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, RejectionReason, TimedOut, Unreachable

MAX_CONNECTIONS = 256
READ_BUFFER_BYTES = 2 << 20
KEEPALIVE_SECONDS = 60.0
MAX_MESSAGE_BYTES = 8 << 20


@dataclass(slots=True)
class _Peer:
    """What is kept of a peer between requests: at most `max_peers` of these."""

    context: ssl.SSLContext
    authorization: str | None = None
    authorizing: asyncio.Lock = field(default_factory=asyncio.Lock)


class PeerClient:
    """Requests to peer ports; `start` and `stop` in the loop that uses it. Blocks have connections of their own, so
    that no question waits behind a download.
    """

    def __init__(self, host_key: HostKey, limits: NetworkLimits, stats: NetworkStats, gate: Gate | None = None) -> None:
        self._host_key = host_key
        self._gate = gate or Gate()
        self._limits = limits
        self._stats = stats
        self._peers: OrderedDict[PeerId, _Peer] = OrderedDict()
        self._asking: aiohttp.ClientSession | None = None
        self._moving: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        ask = max(1, self._limits.connections_per_peer // 3)
        self._asking = self._open_session(ask)
        self._moving = self._open_session(max(1, self._limits.connections_per_peer - ask - 1))

    async def stop(self) -> None:
        sessions = [session for session in (self._asking, self._moving) if session is not None]
        self._asking = self._moving = None
        for session in sessions:
            await session.close()

    def _open_session(self, per_peer: int) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=MAX_CONNECTIONS, limit_per_host=per_peer, keepalive_timeout=KEEPALIVE_SECONDS, use_dns_cache=False
        )
        return aiohttp.ClientSession(
            connector=connector,
            read_bufsize=READ_BUFFER_BYTES,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers={"User-Agent": "mpisa", "Accept-Encoding": "identity"},
        )

    async def get_block(self, provider: PeerAddress, cid: Cid, *, timeout: float) -> bytes:
        path = f"/ipfs/{cid}?format=raw"
        chunks = await self._ask(self._moving, provider, "GET", path, None, timeout, self._limits.max_block_bytes)
        return b"".join(chunks)  # the only copy

    async def get_blocks(self, provider: PeerAddress, cids: Sequence[Cid], *, timeout: float) -> BatchAnswer:
        limit = wire.MAX_BATCH_BYTES + self._limits.max_block_bytes + 4 * len(cids)
        wants = wire.encode_wants(cids)
        chunks = await self._ask(self._moving, provider, "POST", "/mpisa/blocks", wants, timeout, limit)
        return BatchAnswer(wire.decode_blocks(chunks, len(cids)))

    async def request(self, peer: PeerAddress, kind: str, body: bytes, *, timeout: float) -> bytes:
        self._stats.requests_sent += 1
        path = f"/mpisa/request/{kind}"
        chunks = await self._ask(self._asking, peer, "POST", path, body, timeout, self._limits.max_answer_bytes)
        return b"".join(chunks)

    async def open_stream(self, peer: PeerAddress, *, heartbeat: float) -> aiohttp.ClientWebSocketResponse:
        """An authenticated WebSocket of authority frames."""
        session = _running(self._asking)
        state = self._state(peer.peer_id)
        timeout = self._limits.connect_timeout
        async with (
            _errors(peer.peer_id, timeout),
            asyncio.timeout(timeout),
            self._gate.passage(peer.peer_id, timeout),
        ):
            for attempt in range(2):
                authorization = await self._authorize(peer, state)
                try:
                    return await session.ws_connect(
                        _url(peer, "/mpisa/authority"),
                        ssl=state.context,
                        headers={"Authorization": authorization},
                        heartbeat=heartbeat,
                        max_msg_size=MAX_MESSAGE_BYTES,
                        compress=0,
                    )
                except aiohttp.WSServerHandshakeError as error:
                    if error.status != 401 or attempt:
                        raise
                    state.authorization = None
        raise Unreachable(f"{peer.peer_id} doesn't accept our proof")

    async def _ask(
        self,
        session: aiohttp.ClientSession | None,
        peer: PeerAddress,
        method: str,
        path: str,
        body: bytes | None,
        timeout: float,
        max_bytes: int,
    ) -> list[bytes]:
        """The answer's pieces. One request, authenticated; again with a fresh token when the old one ran out."""
        state = self._state(peer.peer_id)
        async with (
            _errors(peer.peer_id, timeout),
            asyncio.timeout(timeout),
            self._gate.passage(peer.peer_id, timeout),
        ):
            for _ in range(2):
                authorization = await self._authorize(peer, state)
                status, answer = await self._once(
                    _running(session), peer, state, method, path, body, authorization, max_bytes
                )
                if status == 200:
                    return answer
                if status != 401:
                    raise wire.decode_problem(status, b"".join(answer), peer.peer_id)
                if state.authorization == authorization:
                    state.authorization = None
        raise Unreachable(f"{peer.peer_id} doesn't accept our proof")

    async def _once(
        self,
        session: aiohttp.ClientSession,
        peer: PeerAddress,
        state: _Peer,
        method: str,
        path: str,
        body: bytes | None,
        authorization: str,
        max_bytes: int,
    ) -> tuple[int, list[bytes]]:
        async with session.request(
            method,
            _url(peer, path),
            data=body,
            ssl=state.context,
            headers={"Authorization": authorization},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_timeout),
        ) as response:
            limit = max_bytes if response.status == 200 else wire.MAX_PROBLEM_BYTES
            return response.status, await _read(response, limit)

    async def _authorize(self, peer: PeerAddress, state: _Peer) -> str:
        """The Authorization header that names us at this peer."""
        async with state.authorizing:
            if state.authorization is None:
                state.authorization = await self._prove(peer, state)
            return state.authorization

    async def _prove(self, peer: PeerAddress, state: _Peer) -> str:
        session = _running(self._asking)
        url = _url(peer, "/mpisa/auth")
        handshake = ClientAuthenticator(self._host_key, peer.peer_id, url.host or "", to_base64(os.urandom(32)))
        timeout = aiohttp.ClientTimeout(total=self._limits.connect_timeout)
        async with session.get(url, ssl=state.context, allow_redirects=False, timeout=timeout) as response:
            await _read(response, wire.MAX_PROBLEM_BYTES)
            answer = handshake.answer(response.headers.get("WWW-Authenticate", ""))
        headers = {"Authorization": answer}
        async with session.get(
            url, ssl=state.context, headers=headers, allow_redirects=False, timeout=timeout
        ) as response:
            body = b"".join(await _read(response, wire.MAX_PROBLEM_BYTES))
            if response.status != 200:
                raise wire.decode_problem(response.status, body, peer.peer_id)
            return handshake.finish(response.headers.get("Authentication-Info", ""))

    def _state(self, peer: PeerId) -> _Peer:
        state = self._peers.get(peer)
        if state is None:
            state = self._peers[peer] = _Peer(client_context(peer))
            if len(self._peers) > self._limits.max_peers:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(peer)
        return state


def _running(session: aiohttp.ClientSession | None) -> aiohttp.ClientSession:
    if session is None:
        raise Unreachable("the network is stopped")
    return session


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> list[bytes]:
    """The pieces of a body of announced length. Raises Rejection(TOO_LARGE | MALFORMED), and closes the connection."""
    length = response.content_length
    if length is None or length > max_bytes:
        response.close()
        if length is None:
            raise Rejection(RejectionReason.MALFORMED, "answer without Content-Length")
        raise Rejection(RejectionReason.TOO_LARGE, f"answer, expected at most {max_bytes} bytes, got {length}")
    chunks: list[bytes] = []
    received = 0
    while data := (await response.content.readchunk())[0]:
        chunks.append(data)
        received += len(data)
        if received > length:
            response.close()
            raise Rejection(RejectionReason.MALFORMED, f"answer, expected {length} bytes, got more")
    return chunks


def _url(peer: PeerAddress, path: str) -> URL:
    if peer.peer_url is None:
        raise Unreachable(f"no peer port known of {peer.peer_id}")
    return URL(peer.peer_url + path, encoded=True)


@asynccontextmanager
async def _errors(peer: PeerId, timeout: float) -> AsyncIterator[None]:
    """Turns what the library raises into our errors."""
    try:
        yield
    except TimeoutError as error:
        raise TimedOut(f"{peer} didn't answer within {timeout} s") from error
    except (aiohttp.ClientError, OSError) as error:
        cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
        raise Unreachable(f"{peer}: {cause or type(cause).__name__}") from error
