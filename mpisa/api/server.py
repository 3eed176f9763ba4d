"""The HTTP server of one node: registers the route table, guards it, and turns errors into problem details.

    server = ApiServer(node); await server.start(); server.url; await server.stop()

It owns the event feed and the counters. Stopping ends open event streams first, then gives running requests
SHUTDOWN_S to finish and as long again to notice that they were cancelled.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import msgspec
import structlog
from aiohttp import hdrs, web

from mpisa.api.blob_routes import MAX_UPLOADS
from mpisa.api.event_feed import EventFeed
from mpisa.api.guard import Guard
from mpisa.api.metrics import Metrics
from mpisa.api.problems import error_of_http, problem_response
from mpisa.api.routes import routes_of
from mpisa.api.routing import MAX_JSON_BODY_BYTES, Context, Route
from mpisa.api.runtime import Announcement, read_or_make_token
from mpisa.primitives.errors import InvalidConfig, MpisaError
from mpisa.sdk.models import Model

if TYPE_CHECKING:
    from mpisa.node.facade import NodeFacade

SHUTDOWN_S: Final = 0.5
KEEPALIVE_S: Final = 75.0
BACKLOG: Final = 512
MAX_HEADER_BYTES: Final = 16 << 10
READ_BUFFER_BYTES: Final = 256 << 10

_LOG = structlog.get_logger("mpisa.api")
_ROUTE: Final = web.AppKey("route", dict)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApiServer:
    """Serves one node on its configured loopback address; `url` is known once it has started."""

    def __init__(self, node: NodeFacade, *, token: str | None = None) -> None:
        self._node = node
        self._token = token
        self._feed = EventFeed(node.events)
        self._metrics = Metrics(node, self._feed)
        self._context = Context(node, self._feed, self._metrics, asyncio.Semaphore(MAX_UPLOADS))
        self._runner: web.AppRunner | None = None
        self._announcement: Announcement | None = None
        self._guard: Guard | None = None
        self._url: str | None = None

    @property
    def url(self) -> str:
        """http://host:port as bound."""
        assert self._url is not None, "the server hasn't started"
        return self._url

    async def start(self) -> str:
        """Listen; returns the URL. Raises InvalidConfig when the address is taken or the token file unsafe."""
        settings = self._node.config.api
        token = self._token or read_or_make_token(self._node.home)
        names = {name.lower() for name in settings.allowed_hosts}
        if settings.host not in ("0.0.0.0", "::"):  # noqa: S104 - compared with, not bound
            names.add(f"[{settings.host}]" if ":" in settings.host else settings.host)
        self._guard = Guard(frozenset(names), token)
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_S,
            shutdown_timeout=SHUTDOWN_S,
            max_field_size=MAX_HEADER_BYTES,
            max_line_size=MAX_HEADER_BYTES,
            read_bufsize=READ_BUFFER_BYTES,
            handler_cancellation=True,
            auto_decompress=False,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port, backlog=BACKLOG).start()
        except OSError as error:
            await runner.cleanup()
            raise InvalidConfig(
                f"api: can't listen on {settings.host}:{settings.port}: {error.strerror or error}",
                hint="another process has the port: choose another api.port in config.toml, or 0 for a free one",
            ) from None
        self._runner = runner
        host, port = runner.addresses[0][:2]
        self._url = f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"
        self._feed.start()
        self._announcement = Announcement(self._node.home, self._url, token, self._node.peer_id)
        self._announcement.publish()
        return self._url

    async def stop(self) -> None:
        """End event streams, finish or cut what runs, free the port; safe to call twice."""
        if self._announcement is not None:
            self._announcement.withdraw()
            self._announcement = None
        await self._feed.stop()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._middleware], client_max_size=MAX_JSON_BODY_BYTES)
        routes = routes_of(self._node.config)
        application[_ROUTE] = {(route.method, route.path): route for route in routes}
        for route in routes:
            application.router.add_route(
                route.method, route.pattern, self._serve(route), expect_handler=self._expect(route)
            )
        return application

    def _serve(self, route: Route) -> _Handler:
        async def serve(request: web.Request) -> web.StreamResponse:
            answer = await route.handler(self._context, request)
            if isinstance(answer, Model):
                body = msgspec.json.encode(answer)
                return web.Response(status=route.status, body=body, content_type="application/json")
            return answer

        return serve

    def _expect(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse | None]]:
        """Refuse before the body is sent: a client that asks by `Expect: 100-continue` learns it without uploading."""

        async def expect(request: web.Request) -> web.StreamResponse | None:
            try:
                self._check(request, route)
            except MpisaError as error:
                response = problem_response(error, new_request_id())
                response.force_close()
                return response
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
            return None

        return expect

    def _check(self, request: web.Request, route: Route | None) -> None:
        assert self._guard is not None
        self._guard.check(request, route)

    @web.middleware
    async def _middleware(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        began = time.perf_counter()
        request_id = new_request_id()
        resource = request.match_info.route.resource
        pattern = resource.canonical if resource is not None else "none"
        route: Route | None = request.app[_ROUTE].get((request.method, pattern))
        response = await self._answer(request, handler, route, request_id)
        if not response.prepared:
            response.headers["X-Request-Id"] = request_id
            response.headers.setdefault(hdrs.SERVER, "mpisa")
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            response.headers.setdefault("Content-Security-Policy", "default-src 'none'; sandbox")
            response.headers.setdefault(hdrs.CACHE_CONTROL, "no-store")
            if response.status >= 400 and not request.content.is_eof():
                response.force_close()
        method = request.method if route is not None else "other"
        self._metrics.count(method, pattern if route else "none", response.status, time.perf_counter() - began)
        return response

    async def _answer(
        self, request: web.Request, handler: _Handler, route: Route | None, request_id: str
    ) -> web.StreamResponse:
        try:
            self._check(request, route)
            return await handler(request)
        except MpisaError as error:
            return problem_response(error, request_id)
        except web.HTTPException as error:
            return problem_response(error_of_http(error, request), request_id)
        except Exception as error:
            if isinstance(error, ConnectionError) and (request.transport is None or request.transport.is_closing()):
                raise
            _LOG.error("request failed", request_id=request_id, path=request.path, error=repr(error), exc_info=error)
            return problem_response(
                MpisaError("a fault inside the node", hint=f"its log has the details under request {request_id}"),
                request_id,
            )


def new_request_id() -> str:
    """A random id that ties an answer to the log."""
    return secrets.token_hex(8)
