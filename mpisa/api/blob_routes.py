"""Bytes in: uploads, what lies behind a CID, pins. Bytes out are `mpisa.api.gateway`.

An upload streams: the node takes the next part when it has dealt with the last, and one that is cut off stores nothing
under a name.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from aiohttp import web

from mpisa.api import convert
from mpisa.api.routing import CURSOR, LIMIT, Answer, Context, Query, Route, read_int, read_json, read_limit
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotReady, Rejection, RejectionReason, UsageError
from mpisa.sdk import models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UPLOAD_CHUNK_BYTES: Final = 1 << 20
MAX_UPLOADS: Final = 128
"""Uploads that are open at once; the node takes turns among them."""
MAX_PROFILE_CHARACTERS: Final = 64
MAX_PIN_NAME_CHARACTERS: Final = 256
TAR: Final = "application/x-tar"
FILE: Final = "application/octet-stream"
CAR_TYPE: Final = "application/vnd.ipld.car"

LS_PAGE: Final = 10_000
REASONS: Final = ("user", "publish", "custody")
MAX_ASKED: Final = 4_096
MAX_ASKED_BYTES: Final = 1 << 20


class PinRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How to pin: the whole DAG or one block, and a name to find the pin by."""

    recursive: bool = True
    name: str = ""


class MissingRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """CIDs of blocks that a client means to send."""

    cids: Annotated[list[Annotated[str, msgspec.Meta(max_length=256)]], msgspec.Meta(max_length=MAX_ASKED)]


async def put(context: Context, request: web.Request) -> Answer:
    profile = request.query.get("profile")
    if profile is not None and len(profile) > MAX_PROFILE_CHARACTERS:
        raise UsageError(f"profile: expected at most {MAX_PROFILE_CHARACTERS} characters, got {len(profile)}")
    limit = _check_upload(context, request)
    async with context.uploads:
        reader = _read_upload(request, limit)
        blobs = context.node.blobs
        if request.content_type == TAR:
            stored = await blobs.put_tar(reader, profile=profile)
        else:
            stored = await blobs.put_stream(reader, profile=profile)
    return models.PutResult(cid=str(stored.cid), size=stored.size, blocks=stored.blocks)


async def put_car(context: Context, request: web.Request) -> Answer:
    limit = _check_upload(context, request)
    async with context.uploads:
        return convert.car(await context.node.blobs.put_car(_read_upload(request, limit)))


def _check_upload(context: Context, request: web.Request) -> int:
    """The limit of an upload in bytes. Raises NotReady and Rejection(TOO_LARGE) before anything is read."""
    if context.uploads.locked():
        raise NotReady(f"{MAX_UPLOADS} uploads are running already", hint="try again when one has ended")
    limit = context.node.config.limits.upload_bytes
    if request.content_length is not None and request.content_length > limit:
        raise _too_large(limit)
    return limit


async def _read_upload(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    received = 0
    async for chunk in request.content.iter_chunked(UPLOAD_CHUNK_BYTES):
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        yield chunk


def _too_large(limit: int) -> Rejection:
    return Rejection(
        RejectionReason.TOO_LARGE,
        f"upload: expected at most {limit} bytes",
        hint="the node's limit is limits.upload_bytes in its config.toml",
    )


async def missing(context: Context, request: web.Request) -> Answer:
    asked = await read_json(request, MissingRequest, MAX_ASKED_BYTES)
    cids = [Cid.parse(text).require_supported() for text in asked.cids]
    return models.MissingBlocks(missing=await context.node.blobs.missing(cids))


async def check(context: Context, request: web.Request) -> Answer:
    return convert.check(await context.node.blobs.check(_cid(request)))


async def stat(context: Context, request: web.Request) -> Answer:
    return convert.stat(await context.node.blobs.stat(_cid(request)))


async def ls(context: Context, request: web.Request) -> Answer:
    cid = _cid(request)
    limit = read_int(request, "limit", LS_PAGE, 1, LS_PAGE) or LS_PAGE
    page = await context.node.content.entries(cid, limit, request.query.get("cursor"))
    return convert.entries(str(cid), page)


async def pin(context: Context, request: web.Request) -> Answer:
    wanted = PinRequest()
    if request.can_read_body:
        wanted = await read_json(request, PinRequest)
    if len(wanted.name) > MAX_PIN_NAME_CHARACTERS:
        raise UsageError(f"name: expected at most {MAX_PIN_NAME_CHARACTERS} characters, got {len(wanted.name)}")
    return convert.pin(await context.node.blobs.pin(_cid(request), recursive=wanted.recursive, name=wanted.name))


async def unpin(context: Context, request: web.Request) -> Answer:
    reason = request.query.get("reason")
    if reason is not None and reason not in REASONS:
        raise UsageError(f"reason: expected {', '.join(REASONS)}, got {reason[:40]!r}")
    await context.node.blobs.unpin(_cid(request), reason=reason)
    return web.Response(status=204)


async def pins(context: Context, request: web.Request) -> Answer:
    limit = read_limit(request)
    only = request.query.get("cid")
    wanted = None if only is None else Cid.parse(only).multihash
    found = (item for item in context.node.blobs.pins() if wanted in (None, item.cid.multihash))
    listed = sorted(found, key=lambda item: str(item.cid))
    start = 0
    cursor = request.query.get("cursor")
    if cursor is not None:
        start = bisect_right(listed, str(Cid.parse(cursor)), key=lambda item: str(item.cid))
    page = listed[start : start + limit]
    following = str(page[-1].cid) if page and start + limit < len(listed) else None
    return models.Pins(pins=tuple(convert.pin(item) for item in page), next=following)


def _cid(request: web.Request) -> Cid:
    return Cid.parse(request.match_info["cid"])


_PROFILE: Final = Query(
    "profile", {"type": "string", "maxLength": MAX_PROFILE_CHARACTERS}, "How bytes become blocks; unixfs-v1-2025."
)
_LS_LIMIT: Final = Query("limit", {"type": "integer", "minimum": 1, "maximum": LS_PAGE}, f"Entries a page; {LS_PAGE}.")
_REASON: Final = Query("reason", {"type": "string", "enum": list(REASONS)}, "Only pins of it; user and publish.")
_ONLY: Final = Query("cid", {"type": "string", "maxLength": 256}, "Only pins of this CID.")
_PUT: Final = (
    "The body streams. application/x-tar is unpacked to a directory, application/octet-stream stored as one file. "
    "Answered once every block is durable and the root pinned. Idempotent by content: the same bytes give the same "
    "CID, so an Idempotency-Key is ignored. Send `Expect: 100-continue` to learn of a refusal before the body is sent."
)
_PUT_CAR: Final = (
    "Every block is hashed and stored, durably once this is answered; roots whose whole DAG is here are pinned then: "
    "`pinned` names them. A CAR may hold part of a DAG, and none of it: what came in earlier ones counts."
)
_MISSING: Final = (
    f"At most {MAX_ASKED} CIDs. What is there, and what is sent in CARs next, stays for an hour at least: so an upload "
    "that was cut off goes on with what is missing."
)
ROUTES = (
    Route(
        "POST",
        "/v1/blobs",
        put,
        "Store a file or a directory",
        "blobs",
        models.PutResult,
        description=_PUT,
        query=(_PROFILE,),
        consumes=(TAR, FILE),
        errors=(413, 422, 503, 507),
    ),
    Route(
        "POST",
        "/v1/blobs/car",
        put_car,
        "Store the blocks of a CAR",
        "blobs",
        models.CarResult,
        description=_PUT_CAR,
        consumes=(CAR_TYPE,),
        errors=(413, 422, 503, 507),
    ),
    Route(
        "POST",
        "/v1/blobs/missing",
        missing,
        "Which of these blocks the node lacks",
        "blobs",
        models.MissingBlocks,
        description=_MISSING,
        body=MissingRequest,
        consumes=("application/json",),
        errors=(413, 422, 503),
    ),
    Route(
        "POST",
        "/v1/blobs/{cid}/verify",
        check,
        "Hash all of a DAG again, where it lies",
        "blobs",
        models.BlobCheck,
        errors=(413, 422, 503),
    ),
    Route("GET", "/v1/blobs/{cid}/stat", stat, "What lies behind a CID", "blobs", models.BlobStat, errors=(404, 422)),
    Route(
        "GET",
        "/v1/blobs/{cid}/ls",
        ls,
        "The names in a directory",
        "blobs",
        models.Entries,
        query=(CURSOR, _LS_LIMIT),
        errors=(404, 422, 503),
    ),
    Route("GET", "/v1/pins", pins, "What this node keeps", "blobs", models.Pins, query=(CURSOR, LIMIT, _ONLY)),
    Route(
        "PUT",
        "/v1/pins/{cid}",
        pin,
        "Keep a CID, fetching what is missing",
        "blobs",
        models.Pin,
        body=PinRequest,
        consumes=("application/json",),
        errors=(404, 413, 422, 503, 507),
    ),
    Route(
        "DELETE",
        "/v1/pins/{cid}",
        unpin,
        "Stop keeping a CID",
        "blobs",
        status=204,
        query=(_REASON,),
        produces=(),
        errors=(404,),
    ),
)
