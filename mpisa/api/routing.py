"""What one route is: enough to register it, to guard it and to document it.

Handlers take a `Context` and the request; they return a record of `mpisa.sdk.models` (sent as JSON) or a response of
their own, and raise errors of `mpisa.primitives.errors`, which the middleware turns into problem details.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgspec
from aiohttp import web

from mpisa.primitives.errors import Rejection, RejectionReason, UsageError
from mpisa.sdk.models import Model

if TYPE_CHECKING:
    from mpisa.api.event_feed import EventFeed
    from mpisa.api.metrics import Metrics
    from mpisa.node.facade import NodeFacade

MAX_PAGE: Final = 1_000
DEFAULT_PAGE: Final = 100
MAX_JSON_BODY_BYTES: Final = 256 << 10
MAX_HEIGHT: Final = (1 << 63) - 1
MAX_STATE_KEY_BYTES: Final = 512


@dataclass(slots=True)
class Context:
    """What handlers need: the node, the event feed, counters, and the bound on uploads at once."""

    node: NodeFacade
    feed: EventFeed
    metrics: Metrics
    uploads: asyncio.Semaphore


Answer: TypeAlias = Model | web.StreamResponse
Handler: TypeAlias = Callable[[Context, web.Request], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Query:
    """A query parameter and its JSON Schema, as documented."""

    name: str
    schema: dict[str, Any]
    description: str


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path pattern with its handler and its documentation.

    `answer` is the type of the JSON answer, None for other `produces`. `consumes` lists content types of the body;
    `body` is the type of a JSON body. `errors` are the statuses of problem details besides 400, 403 and 500.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    tag: str
    answer: type[Model] | None = None
    status: int = 200
    description: str = ""
    query: tuple[Query, ...] = ()
    body: type[msgspec.Struct] | None = None
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ("application/json",)
    errors: tuple[int, ...] = ()
    also: dict[int, type[Model]] = field(default_factory=dict)
    open_ended: bool = False

    @property
    def pattern(self) -> str:
        """The path as the router takes it: one that is `open_ended` ends with a parameter that has slashes in it."""
        return f"{self.path[:-1]}:.*}}" if self.open_ended else self.path

    @property
    def writes(self) -> bool:
        """Whether it changes something, and so needs the token."""
        return self.method not in ("GET", "HEAD")


LIMIT: Final = Query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE}, f"Items a page; {DEFAULT_PAGE}.")
CURSOR: Final = Query("cursor", {"type": "string", "maxLength": 2048}, "`next` of the page before.")
HEIGHT: Final = Query(
    "height", {"type": "integer", "minimum": 0, "maximum": MAX_HEIGHT}, "At this height; the newest certified one."
)


def read_int(request: web.Request, name: str, default: int | None, low: int, high: int) -> int | None:
    """An integer query parameter within bounds; raises UsageError."""
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and low <= int(text) <= high):
        raise UsageError(f"{name}: expected an integer from {low} to {high}, got {text[:40]!r}")
    return int(text)


def read_limit(request: web.Request) -> int:
    """How many items a page."""
    return read_int(request, "limit", DEFAULT_PAGE, 1, MAX_PAGE) or DEFAULT_PAGE


def read_height(request: web.Request) -> int | None:
    """The height asked for, None for the newest certified."""
    return read_int(request, "height", None, 0, MAX_HEIGHT)


def read_hex(text: str, name: str, *, length: int | None = None, max_length: int = MAX_STATE_KEY_BYTES) -> bytes:
    """Bytes from lower-case hex; raises UsageError naming what was expected."""
    plain = text.removeprefix("0x")
    expected = f"{2 * length} lower-case hex digits" if length else f"1 to {max_length} bytes in lower-case hex"
    fits = len(plain) == 2 * length if length else len(plain) <= 2 * max_length
    found = _from_hex(plain) if fits else b""
    if not found:
        raise UsageError(f"{name}: expected {expected}, got {text[:80]!r}")
    return found


def _from_hex(text: str) -> bytes:
    """No bytes for what isn't lower-case hex. Python takes spaces and capitals too: those don't come back the same."""
    try:
        found = bytes.fromhex(text)
    except ValueError:
        return b""
    return found if found.hex() == text else b""


async def read_json(request: web.Request, kind: type[Any], max_bytes: int = MAX_JSON_BODY_BYTES) -> Any:
    """A small JSON body of a known shape. Raises Rejection(TOO_LARGE) and UsageError."""
    data = bytearray()
    async for chunk in request.content.iter_any():
        data += chunk
        if len(data) > max_bytes:
            raise Rejection(RejectionReason.TOO_LARGE, f"body: expected at most {max_bytes} bytes")
    try:
        return msgspec.json.decode(bytes(data), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"body: {error}", hint="see /openapi.json") from None
