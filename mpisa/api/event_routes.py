"""/v1/events: server-sent events. A comment every HEARTBEAT_S keeps proxies and clients sure that we are there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from mpisa.api.routing import Answer, Context, Route

if TYPE_CHECKING:
    from mpisa.sdk.models import Event

HEARTBEAT_S: Final = 15.0
SEND_S: Final = 30.0
"""How long a client may take nothing of what waits for it: then its place is another's."""
RECONNECT_MS: Final = 1_000


async def events(context: Context, request: web.Request) -> Answer:
    listener = context.feed.listen(_last_event_id(request))
    try:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        )
        await response.prepare(request)
        await response.write(b"retry: %d\n\n" % RECONNECT_MS)
        while not listener.ended:
            if await listener.wait(HEARTBEAT_S):
                data = b"".join(encode_event(event) for event in listener.take())
            else:
                data = b": still here\n\n"
            if data:
                async with asyncio.timeout(SEND_S):
                    await response.write(data)
    except (ConnectionError, TimeoutError):
        if request.transport is not None:
            request.transport.abort()
        return response
    finally:
        context.feed.forget(listener)
    return response


def encode_event(event: Event) -> bytes:
    """One event in the form of the event-stream format; its JSON holds no line break."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.id, event.kind.encode(), msgspec.json.encode(event.data))


def _last_event_id(request: web.Request) -> int | None:
    text = request.headers.get("Last-Event-ID", "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


_ABOUT: Final = (
    "Each event has a rising id, a kind as its event name and JSON as data. After Last-Event-ID what is still "
    "remembered is sent again; kind gap says that some were missed. Comments are heartbeats."
)

ROUTES = (
    Route(
        "GET",
        "/v1/events",
        events,
        "What happens, as server-sent events",
        "events",
        description=_ABOUT,
        produces=("text/event-stream",),
        errors=(503,),
    ),
)
