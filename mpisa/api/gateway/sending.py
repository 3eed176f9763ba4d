"""Answers on the wire: 304 for what the client has, one range or all, nothing but headers for HEAD.

A stream that can't be finished breaks the connection, within the chunked body or short of the promised length, so that
no client can take it for complete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from mpisa.api.gateway.headers import matches
from mpisa.api.gateway.ranges import read_range
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_LOG: Final = structlog.get_logger("mpisa.api")
_KEPT: Final = ("Etag", "Cache-Control", "X-Ipfs-Path", "X-Ipfs-Roots", "Vary", "Content-Security-Policy")


def not_modified(request: web.Request, headers: dict[str, str]) -> web.Response | None:
    """The answer to a client that has this representation already."""
    held = ",".join(request.headers.getall("If-None-Match", [])) or None
    if not matches(held, headers["Etag"]):
        return None
    return web.Response(status=304, headers={name: value for name, value in headers.items() if name in _KEPT})


def span_of(request: web.Request, headers: dict[str, str], size: int) -> tuple[int, int] | None:
    """The range to send, half open; None for everything. Raises RangeNotSatisfiable.

    With If-Range only where the client's part is of this representation, by its strong tag.
    """
    condition = request.headers.get("If-Range")
    if condition is not None and condition.strip() != headers["Etag"]:
        return None
    return read_range(request.headers.get("Range"), size)


def send_bytes(request: web.Request, body: bytes, headers: dict[str, str]) -> web.Response:
    """Bytes that are all here. Raises RangeNotSatisfiable."""
    same = not_modified(request, headers)
    if same is not None:
        return same
    span = span_of(request, headers, len(body))
    headers = headers | {"Accept-Ranges": "bytes"}
    if span is None:
        return web.Response(body=body, headers=headers)
    first, end = span
    headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(body)}"
    return web.Response(status=206, body=body[first:end], headers=headers)


async def send_stream(
    request: web.Request,
    parts: AsyncIterator[bytes],
    headers: dict[str, str],
    *,
    limit: int,
    status: int = 200,
    length: int | None = None,
) -> web.StreamResponse:
    """The parts, `length` bytes in all where that is known. An error before the first is raised as usual.

    More than `limit` bytes are refused, or break the connection where their number wasn't known beforehand.
    """
    if length is not None and length > limit:
        raise _too_large(limit)
    sent = 0
    try:
        first = await anext(parts, b"")
        response = web.StreamResponse(status=status, headers=headers)
        if length is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = length
        try:
            await response.prepare(request)
            await response.write(first)
            sent += len(first)
            async for part in parts:
                sent += len(part)
                if sent > limit:
                    raise _too_large(limit)
                await response.write(part)
        except (MpisaError, OSError) as error:
            if not isinstance(error, ConnectionError):
                _LOG.warning("download cut off", path=request.path, error=str(error))
            if request.transport is not None:
                request.transport.abort()
            return response
    finally:
        close = getattr(parts, "aclose", None)
        if close is not None:
            await close()
    await response.write_eof()
    return response


def _too_large(limit: int) -> Rejection:
    return Rejection(
        RejectionReason.TOO_LARGE,
        f"the answer has more than {limit} bytes",
        hint="limits.answer_bytes in the node's config.toml bounds it; ask for a range or for a path below",
    )


async def send_headers(
    request: web.Request, headers: dict[str, str], *, status: int = 200, length: int | None = None
) -> web.StreamResponse:
    """The answer to HEAD."""
    response = web.StreamResponse(status=status, headers=headers)
    response.content_length = length
    await response.prepare(request)
    await response.write_eof()
    return response
