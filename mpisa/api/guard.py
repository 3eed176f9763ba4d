"""Who may ask what: the checks before a request reaches its handler.

A browser on this machine must not be a way in: the Host must be one of ours (DNS rebinding), an Origin must be our own
(cross-site requests), and whatever writes needs the node's token, which no page can read. Content types are checked, so
that a plain form can't pass for JSON. Paths are matched whole by the router; no file is opened by a name from a URL.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.api.problems import Unauthorized, UnsupportedType
from mpisa.primitives.errors import Denied

if TYPE_CHECKING:
    from aiohttp import web

    from mpisa.api.routing import Route

LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "[::1]"})
MAX_TOKEN_CHARACTERS: Final = 512


@dataclass(frozen=True, slots=True, repr=False)
class Guard:
    """`hosts` are accepted Host values, with or without a port; `token` opens what writes."""

    hosts: frozenset[str]
    token: str

    def check_host(self, request: web.Request) -> None:
        """Raise Denied unless the Host header names this machine or a configured name."""
        host = request.headers.get("Host", "").lower()
        if not self._known(host):
            raise Denied(
                f"Host {host[:100]!r} isn't one this node answers to",
                hint="use http://127.0.0.1:PORT, or add the name to api.allowed_hosts in config.toml",
            )

    def check_origin(self, request: web.Request) -> None:
        """Raise Denied for a request that a page from elsewhere made."""
        origin = request.headers.get("Origin")
        if origin is not None:
            scheme, separator, host = origin.lower().partition("://")
            own = host == request.headers.get("Host", "").lower()
            if scheme not in ("http", "https") or not separator or not own:
                raise Denied(f"a page from {origin[:100]!r} may not use this node")
        if request.headers.get("Sec-Fetch-Site", "none").lower() in ("cross-site", "same-site"):
            raise Denied("a page from elsewhere may not use this node")

    def check_token(self, request: web.Request) -> None:
        """Raise Unauthorized unless the request carries the node's token; compared in constant time."""
        given = request.headers.get("Authorization", "")
        scheme, _, token = given.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthorized(
                "this needs the node's token", hint="send `Authorization: Bearer TOKEN`; the token is in HOME/api.token"
            )
        if not hmac.compare_digest(token.encode("utf-8", "surrogateescape"), self.token.encode()):
            raise Unauthorized("the token isn't this node's", hint="the token is in HOME/api.token of the node's home")

    def check(self, request: web.Request, route: Route | None) -> None:
        """Everything, in order; `route` is None for a path that isn't served."""
        self.check_host(request)
        self.check_origin(request)
        if route is None:
            return
        if route.writes:
            self.check_token(request)
        if route.consumes:
            self._check_body(request, route)

    def _check_body(self, request: web.Request, route: Route) -> None:
        if request.content_type not in route.consumes:
            raise UnsupportedType(
                f"expected a body of type {' or '.join(route.consumes)}, got {request.content_type[:100]}"
            )
        coding = request.headers.get("Content-Encoding", "identity")
        if coding.lower() != "identity":
            raise UnsupportedType(
                f"expected a body without content coding, got {coding[:100]!r}", hint="send the bytes as they are"
            )

    def _known(self, host: str) -> bool:
        if host in self.hosts:
            return True
        name, separator, port = host.rpartition(":")
        if not separator or host.endswith("]"):
            return host in LOOPBACK_NAMES
        return port.isascii() and port.isdigit() and (name in LOOPBACK_NAMES or name in self.hosts)
