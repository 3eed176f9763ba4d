"""The trustless gateway under /ipfs.

A download that can't be finished breaks the connection inside the chunked body, so that no client can take it for
complete; whoever reads it hashes every block anyway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from mpisa.api.problems import NotAcceptable
from mpisa.api.routing import Answer, Context, Query, Route
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CAR_TYPE: Final = "application/vnd.ipld.car"
RAW_TYPE: Final = "application/vnd.ipld.raw"

_LOG = structlog.get_logger("mpisa.api")


async def gateway(context: Context, request: web.Request) -> Answer:
    cid = Cid.parse(request.match_info["cid"])
    cid.require_supported()
    form = _form(request)
    headers = {
        "Content-Disposition": f'attachment; filename="{cid}.{"car" if form == CAR_TYPE else "bin"}"',
        "Cache-Control": "public, max-age=29030400, immutable",
        "Etag": f'"{cid}.{"car" if form == CAR_TYPE else "raw"}"',
        "X-Ipfs-Path": f"/ipfs/{cid}",
        "X-Ipfs-Roots": str(cid),
    }
    if form == RAW_TYPE:
        body = await context.node.blobs.block(cid)
        return web.Response(body=body, headers=headers | {"Content-Type": RAW_TYPE})
    headers["Content-Type"] = f"{CAR_TYPE}; version=1; order=dfs; dups=y"
    return await _stream(request, context.node.blobs.car(cid), headers)


async def _stream(request: web.Request, parts: AsyncIterator[bytes], headers: dict[str, str]) -> web.StreamResponse:
    """Send the parts; an error before the first is answered as usual, a later one breaks the connection."""
    first = await anext(parts, b"")
    response = web.StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    try:
        await response.prepare(request)
        await response.write(first)
        async for part in parts:
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


def _form(request: web.Request) -> str:
    wanted = request.query.get("format")
    if wanted is not None:
        forms = {"car": CAR_TYPE, "raw": RAW_TYPE}
        if wanted not in forms:
            raise UsageError(f"format: expected car or raw, got {wanted[:40]!r}")
        return forms[wanted]
    accept = request.headers.get("Accept", "")
    for form in (CAR_TYPE, RAW_TYPE):
        if form in accept:
            return form
    raise NotAcceptable(
        "this gateway sends blocks that can be verified, as car or raw",
        hint="add ?format=car or ?format=raw, or `mpisa get CID -o FILE` for the content itself",
    )


_FORMAT: Final = Query("format", {"type": "string", "enum": ["car", "raw"]}, "Instead of the Accept header.")
_GATEWAY: Final = (
    "Trustless: a CAR of the whole DAG in depth-first order without repeats, or one raw block. Missing blocks are "
    "fetched from peers, hashed and stored on the way. A CAR that can't be finished breaks the connection."
)

ROUTES = (
    Route(
        "GET",
        "/ipfs/{cid}",
        gateway,
        "Blocks that verify themselves",
        "blobs",
        description=_GATEWAY,
        query=(_FORMAT,),
        produces=(CAR_TYPE, RAW_TYPE),
        errors=(404, 406, 422, 502, 503, 504),
    ),
)
