"""Server-sent events, read line by line. The stream's silence is bounded: the node sends a comment as a heartbeat."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from mpisa.primitives.errors import IntegrityError, Unreachable
from mpisa.sdk import models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpisa.sdk.transport import Transport

MAX_EVENT_BYTES: Final = 256 << 10
SILENCE_S: Final = 60.0
"""Several heartbeats long: a node that says nothing for that long is gone."""


class EventParser:
    """Bytes in, events out, as the HTML standard's event-stream format has them; comments are skipped."""

    def __init__(self) -> None:
        self._rest = b""
        self._kind = ""
        self._id = 0
        self._data: list[str] = []
        self._size = 0

    def feed(self, data: bytes) -> list[models.Event]:
        """The events that are complete with these bytes. Raises IntegrityError for an over-long or malformed one."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self._check_size(len(self._rest))
        found = []
        for line in lines:
            event = self._take(line.rstrip(b"\r").decode("utf-8", "replace"))
            if event is not None:
                found.append(event)
        return found

    def _take(self, line: str) -> models.Event | None:
        if not line:
            return self._finish()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._size += len(value) + 1
            self._check_size(0)
        elif field == "event":
            self._kind = value
        elif field == "id" and value.isascii() and value.isdigit() and len(value) < 20:
            self._id = int(value)
        return None

    def _check_size(self, unfinished: int) -> None:
        """An empty line of data counts too: a stream of them must end somewhere."""
        if self._size + unfinished > MAX_EVENT_BYTES:
            raise IntegrityError(f"an event is longer than {MAX_EVENT_BYTES} bytes")

    def _finish(self) -> models.Event | None:
        kind, data, self._kind, self._data, self._size = self._kind, self._data, "", [], 0
        if not data:
            return None
        try:
            body: Any = json.loads("\n".join(data))
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"an event isn't JSON: {error}") from None
        return models.Event(
            id=self._id, kind=kind or "message", data=body if isinstance(body, dict) else {"value": body}
        )


async def stream_events(transport: Transport, last_event_id: int | None) -> AsyncIterator[models.Event]:
    """Events until the stream is closed by us; Unreachable when the node ends it."""
    headers = {"Accept": "text/event-stream"}
    if last_event_id is not None:
        headers["Last-Event-ID"] = str(last_event_id)
    parser = EventParser()
    async with transport.stream("GET", "/v1/events", headers=headers, silence=SILENCE_S) as answer:
        async for data in answer.content.iter_any():
            for event in parser.feed(data):
                yield event
    raise Unreachable("the node ended the event stream", hint="it may be stopping: `mpisa node status`")
