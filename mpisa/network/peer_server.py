"""The peer port: an HTTPS server for other nodes. Who asks has proved its peer id (`peer_auth`), or is known by its
address alone.

    GET|HEAD /ipfs/{cid}?format=raw   a block, as a trustless gateway answers     anybody
    POST /mpisa/blocks                many small blocks in one answer             peers
    GET  /mpisa/auth                  challenge and bearer token                  anybody
    GET  /mpisa/authority             WebSocket of authority frames               authorities
    POST /mpisa/request/{kind}        request and response                        peers

Bounds: connections in all and of one peer, requests a second of one peer, bytes being sent to one peer and in all
(`serving`: askers take turns), sizes of bodies; a connection that asks nothing is closed. A peer whose bytes make no
sense is disconnected and counted.
"""

from __future__ import annotations

import asyncio
import datetime
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor

from aiohttp import web

from mpisa.network import wire
from mpisa.network.gate import Gate
from mpisa.network.limits import KeyedLimiter
from mpisa.network.peer_auth import NONCE_BYTES, ServerAuthenticator
from mpisa.network.peer_id import HostKey
from mpisa.network.ports import BlockSource, NetworkLimits, NetworkStats, PeerId, RequestHandler
from mpisa.network.serving import TooMany, Turn, Turns
from mpisa.network.tls import server_context
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Denied, MpisaError, NotFound, Rejection, RejectionReason

MAX_CONNECTIONS = 1024
SILENT_SECONDS = 10.0
HANDSHAKE_SECONDS = 5.0
KEEPALIVE_SECONDS = 75.0
MAX_RATE_KEYS = 4096
MAX_TOKENS = 4096
TOKEN_SECONDS = 5.0
"""For so long a bearer token that was checked is believed unchecked."""

LISTEN_BACKLOG = 128
CLOSE_SECONDS = 1.0
SEND_SLICE = 256 * 1024
"""What is written before the next pause: one large write would be taken whole, however slow the peer."""

SEND_SECONDS = 60.0
"""A peer that hasn't taken an answer by then is disconnected: it would hold our memory."""

ASKER = web.RequestKey("asker", str)
PEER = web.RequestKey("peer", str)
INFO: web.RequestKey[str | None] = web.RequestKey("info")

StreamHandler = Callable[[PeerId, web.Request], Awaitable[web.StreamResponse]]
"""Takes over an authenticated WebSocket request."""


class PeerServer:
    """The server's life, its bounds and its routes. `open_stream`, when set, serves the authority WebSocket."""

    def __init__(
        self,
        host_key: HostKey,
        source: BlockSource,
        executor: Executor,
        limits: NetworkLimits,
        stats: NetworkStats,
        gate: Gate | None = None,
    ) -> None:
        self._host_key = host_key
        self._gate = gate or Gate()
        self._source = source
        self.open_stream: StreamHandler | None = None
        self._executor = executor
        self._limits = limits
        self._stats = stats
        self._auth = ServerAuthenticator(host_key, os.urandom(32))
        self._rates = KeyedLimiter(limits.requests_per_second, limits.request_burst, MAX_RATE_KEYS)
        self._turns = Turns(limits)
        self._tokens: OrderedDict[str, tuple[PeerId, float]] = OrderedDict()
        self._askers: dict[web.RequestHandler, str] = {}
        self.handlers: dict[str, RequestHandler] = {}
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    def set_request_handler(self, kind: str, handler: RequestHandler) -> None:
        wire.validate_kind(kind)
        self.handlers[kind] = handler

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port. Raises OSError when it is taken."""
        app = web.Application(client_max_size=self._limits.max_request_bytes, middlewares=[self._guard])
        app.router.add_get("/ipfs/{cid}", self._get_block)
        app.router.add_post("/mpisa/blocks", self._get_blocks)
        app.router.add_get("/mpisa/auth", self._authenticate)
        app.router.add_get("/mpisa/authority", self._stream)
        app.router.add_post("/mpisa/request/{kind}", self._request)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            handle_signals=False,
            shutdown_timeout=CLOSE_SECONDS,
        )
        await self._runner.setup()
        context = server_context(self._host_key, datetime.datetime.now(datetime.UTC))
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            host,
            port,
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            backlog=LISTEN_BACKLOG,
            reuse_address=True,
        )
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def sever(self, peers: frozenset[PeerId]) -> None:
        """Ends every connection that one of these peers opened."""
        for connection, asker in self._askers.items():
            if asker in peers and connection.transport is not None:
                connection.transport.abort()

    def _accept(self) -> asyncio.Protocol:
        """A protocol for a new TLS connection, or one that ends it at once when there are too many."""
        assert self._runner is not None
        server = self._runner.server
        if server is None or len(server.connections) >= MAX_CONNECTIONS:
            self._stats.connections_refused += 1
            return _Refused()
        handler = server()
        asyncio.get_running_loop().call_later(SILENT_SECONDS, self._close_if_silent, handler)
        return handler

    def _close_if_silent(self, handler: web.RequestHandler) -> None:
        if handler.transport is not None and handler not in self._askers:
            handler.transport.abort()

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Names the asker, applies its limits, turns errors into answers."""
        header = request.headers.get("Authorization")
        asker = f"address {request.remote}"
        try:
            if header is not None:
                asker = self._identify(request, header)
                if self._gate.is_cut(asker):
                    raise _CutOff("cut off")
            self._admit(asker, request.protocol)
            request[ASKER] = asker
            return await handler(request)
        except NotFound as error:
            return _problem(404, error)
        except TooMany as error:
            self._stats.requests_refused += 1
            return _problem(429, error, close=True)
        except _Unauthenticated as error:
            return self._challenge(error)
        except _CutOff as error:
            if request.transport is not None:
                request.transport.abort()
            return _problem(503, error, close=True)
        except Denied as error:
            self._stats.requests_refused += 1
            return _problem(403, error, close=True)
        except Rejection as error:
            return self._refuse(error)
        except MpisaError as error:
            return _problem(503, error)

    def _challenge(self, error: MpisaError) -> web.Response:
        challenge = self._auth.challenge(time.time(), os.urandom(NONCE_BYTES))
        return _problem(401, error, headers={"WWW-Authenticate": challenge})

    def _identify(self, request: web.Request, header: str) -> PeerId:
        now = asyncio.get_running_loop().time()
        peer, until = self._tokens.get(header, (PeerId(""), 0.0))
        if now < until:
            request[PEER], request[INFO] = peer, None
            return peer
        try:
            known = self._auth.authenticate(header, request.url.host or "", time.time())
        except Rejection as error:
            raise _BadProof(error.reason, error.detail) from error
        request[PEER] = known.peer_id
        request[INFO] = known.info
        if known.info is None:
            self._tokens[header] = known.peer_id, now + TOKEN_SECONDS
            self._tokens.move_to_end(header)
            if len(self._tokens) > MAX_TOKENS:
                self._tokens.popitem(last=False)
        return known.peer_id

    def _refuse(self, error: Rejection) -> web.Response:
        if isinstance(error, _BadProof):
            return self._challenge(error)
        if error.reason in wire.GARBAGE:
            self._stats.peers_disconnected_garbage += 1
            return _problem(400, error, close=True)
        return _problem(422, error)

    def _admit(self, asker: str, connection: web.RequestHandler) -> None:
        """Raises TooMany when the asker is over a limit."""
        if not self._rates.take(asker, asyncio.get_running_loop().time()):
            raise TooMany(f"over {self._limits.requests_per_second:.0f} requests a second")
        if self._askers.get(connection) == asker:
            return
        server = None if self._runner is None else self._runner.server
        live = frozenset(() if server is None else server.connections)
        self._askers = {known: name for known, name in self._askers.items() if known in live}
        if sum(name == asker for name in self._askers.values()) >= self._limits.connections_per_peer:
            raise TooMany(f"over {self._limits.connections_per_peer} connections")
        self._askers[connection] = asker

    async def _authenticate(self, request: web.Request) -> web.StreamResponse:
        peer = _peer_of(request)
        info = request[INFO]
        headers = {} if info is None else {"Authentication-Info": info}
        return web.Response(text=peer, headers=headers)

    async def _get_block(self, request: web.Request) -> web.StreamResponse:
        wants_raw = request.query.get("format") == "raw" or wire.RAW_TYPE in request.headers.get("Accept", "")
        if not wants_raw or len(request.match_info["cid"]) > wire.MAX_CID_TEXT:
            raise Rejection(
                RejectionReason.MALFORMED, "expected a CID and format=raw: only single blocks are served here"
            )
        cid = Cid.parse(request.match_info["cid"])
        headers = {
            "Content-Type": wire.RAW_TYPE,
            "Cache-Control": "public, max-age=29030400, immutable",
            "Etag": f'"{cid}.raw"',
            "X-Content-Type-Options": "nosniff",
        }
        loop, is_head = asyncio.get_running_loop(), request.method == "HEAD"
        async with self._turns.turn(request[ASKER], 0 if is_head else self._limits.max_block_bytes) as turn:
            if is_head:
                size = await loop.run_in_executor(self._executor, self._source.size_of, cid)
                if size is None:
                    raise NotFound(f"block {cid} isn't here")
                return web.Response(headers=headers | {"Content-Length": str(size)})
            data = await loop.run_in_executor(self._executor, self._source.get, cid)
            if data is None:
                raise NotFound(f"block {cid} isn't here")
            self._stats.blocks_served += 1
            return await self._send(request, headers, [data], turn)

    async def _get_blocks(self, request: web.Request) -> web.StreamResponse:
        _peer_of(request)
        cids = wire.decode_wants(await self._body(request), self._limits.max_batch_blocks)
        size = min(wire.MAX_BATCH_BYTES, len(cids) * self._limits.max_block_bytes) + self._limits.max_block_bytes
        async with self._turns.turn(request[ASKER], size) as turn:
            answer, count = await asyncio.get_running_loop().run_in_executor(
                self._executor, wire.collect_blocks, self._source, cids
            )
            self._stats.blocks_served += count
            return await self._send(request, {"Content-Type": "application/octet-stream"}, answer, turn)

    async def _send(
        self, request: web.Request, headers: dict[str, str], body: Sequence[bytes], turn: Turn
    ) -> web.StreamResponse:
        """Writes the answer's pieces, whose bytes count as in flight until they are handed to the kernel."""
        size = sum(map(len, body))
        turn.resize(size)
        response = web.StreamResponse(headers=headers)
        response.content_length = size
        try:
            writer = await response.prepare(request)
            if writer is not None:
                writer.send_headers()  # apart from the body, which would be copied behind them
                async with asyncio.timeout(SEND_SECONDS):
                    for piece in body:
                        view = memoryview(piece)
                        for start in range(0, len(piece), SEND_SLICE):
                            await writer.write(view[start : start + SEND_SLICE])
            await response.write_eof()
            self._stats.block_bytes_served += size
        except TimeoutError:
            self._stats.requests_refused += 1
            if request.transport is not None:
                request.transport.abort()
        return response

    async def _request(self, request: web.Request) -> web.StreamResponse:
        peer = _peer_of(request)
        handler = self.handlers.get(request.match_info["kind"])
        if handler is None:
            raise NotFound(f"no requests of kind {request.match_info['kind'][:40]!r} are answered here")
        answer = await handler(peer, await self._body(request))
        await self._gate.hold_answer(peer)
        self._stats.requests_served += 1
        return web.Response(body=answer)

    async def _body(self, request: web.Request) -> bytes:
        try:
            return await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            limit = self._limits.max_request_bytes
            raise Rejection(RejectionReason.TOO_LARGE, f"request body, expected at most {limit} bytes") from error

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        peer = _peer_of(request)
        if self.open_stream is None:
            raise NotFound("no authority streams are served here")
        return await self.open_stream(peer, request)


class _Unauthenticated(MpisaError):
    code = "unauthenticated"


class _CutOff(MpisaError):
    code = "cut-off"


class _BadProof(Rejection):
    """A header that proves no peer id: whoever sent it is challenged again."""


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


def _peer_of(request: web.Request) -> PeerId:
    peer = request.get(PEER)
    if peer is None:
        raise _Unauthenticated("this needs a proven peer id")
    return PeerId(peer)


def _problem(
    status: int, error: MpisaError, *, headers: dict[str, str] | None = None, close: bool = False
) -> web.Response:
    response = web.Response(
        status=status, body=wire.encode_problem(error), headers=headers, content_type="application/json"
    )
    if close:
        response.force_close()
    return response
