"""Messages on libp2p streams: four bytes of length, then the message. One exchange a stream (`ask`, `answer`), or
many messages one way.
"""

from __future__ import annotations

from typing import Any

from libp2p.io.exceptions import IOException, MessageTooLarge
from libp2p.network.exceptions import SwarmException
from libp2p.network.stream.exceptions import StreamEOF, StreamError

from mpisa.primitives.errors import Rejection, RejectionReason, Unreachable

LENGTH_BYTES = 4
STREAM_FAILURES: tuple[type[Exception], ...] = (StreamError, SwarmException, IOException, OSError)
"""What the library raises when a stream or its connection is gone."""


async def write_message(stream: Any, message: bytes) -> None:
    """Raises Unreachable when the stream is broken."""
    try:
        await stream.write(len(message).to_bytes(LENGTH_BYTES, "big") + message)
    except STREAM_FAILURES as error:
        raise Unreachable(f"stream broke: {error or type(error).__name__}") from error


async def read_message(stream: Any, max_bytes: int) -> bytes | None:
    """The next message, or None at a clean end. Raises Unreachable (broken) or Rejection(TOO_LARGE)."""
    head = await _read_exactly(stream, LENGTH_BYTES)
    if head is None:
        return None
    length = int.from_bytes(head, "big")
    if length > max_bytes:
        raise Rejection(RejectionReason.TOO_LARGE, f"message, expected at most {max_bytes} bytes, got {length}")
    body = await _read_exactly(stream, length)
    if body is None:
        raise Unreachable("stream ended inside a message")
    return body


async def _read_exactly(stream: Any, count: int) -> bytes | None:
    """`count` bytes, or None when the stream ends before the first of them."""
    buffer = bytearray()
    while len(buffer) < count:
        try:
            chunk = await stream.read(count - len(buffer))
        except StreamEOF:
            chunk = b""
        except MessageTooLarge as error:
            raise Rejection(RejectionReason.TOO_LARGE, str(error)) from error
        except STREAM_FAILURES as error:
            raise Unreachable(f"stream broke: {error or type(error).__name__}") from error
        if not chunk:
            if buffer:
                raise Unreachable("stream ended inside a message")
            return None if count else b""
        buffer += chunk
    return bytes(buffer)
