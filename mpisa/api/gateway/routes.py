"""The gateway's routes: from a request to where its path leads, and to the answer in the form that is asked for.

Missing blocks are fetched from peers, hashed and stored on the way, unless the client says `only-if-cached`. Which
forms are served says `api.gateway`: "path" for all, "trustless" for those that a receiver can verify, "off" for none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from mpisa.api.gateway import blocks, codecs, content
from mpisa.api.gateway.asking import Ask
from mpisa.api.gateway.headers import SANDBOX, disposition, tag_of
from mpisa.api.gateway.names import follow, read_name, record_of, seconds_to_keep
from mpisa.api.gateway.negotiation import TRUSTLESS, TYPES, Form, Wanted, negotiate
from mpisa.api.gateway.paths import ContentPath, read_path
from mpisa.api.gateway.sending import send_bytes
from mpisa.api.problems import NotAcceptable, NotImplementedHere, PreconditionFailed
from mpisa.api.routing import Answer, Context, Handler, Query, Route
from mpisa.config import Gateway
from mpisa.node.reading import BlockMissing
from mpisa.primitives.cid import DAG_PB, RAW, Cid
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, UsageError
from mpisa.primitives.ipns import MAX_RECORD_BYTES, name_text

if TYPE_CHECKING:
    from mpisa.primitives.ipns import IpnsRecord


async def ipfs(context: Context, request: web.Request) -> Answer:
    path = read_path(request.rel_url.raw_path)
    return await _answer(context, request, path, path, None)


async def ipns(context: Context, request: web.Request) -> Answer:
    path = read_path(request.rel_url.raw_path)
    name = read_name(path.root)
    if path.root != name_text(name):
        query = request.rel_url.raw_query_string
        canonical = ContentPath("ipns", name_text(name), path.parts, path.slash)
        return web.Response(status=302, headers={"Location": f"{canonical}{'?' if query else ''}{query}"})
    wanted = _negotiate(context, request)
    if wanted.form is Form.RECORD:
        if path.parts:
            raise UsageError("a record is that of a name: leave out what follows it")
        return _send_record(request, path, await record_of(context.node.names, name))
    pointed = await follow(context.node.names, name)
    target = ContentPath("ipfs", pointed.path.root, (*pointed.path.parts, *path.parts), path.slash)
    return await _answer(context, request, path, target, pointed.max_age)


async def put_record(context: Context, request: web.Request) -> Answer:
    name = read_name(request.match_info["name"])
    raw = bytearray()
    async for chunk in request.content.iter_any():
        raw += chunk
        if len(raw) > MAX_RECORD_BYTES:
            raise Rejection(RejectionReason.TOO_LARGE, f"record: expected at most {MAX_RECORD_BYTES} bytes")
    await context.node.names.put(name, bytes(raw))
    return web.Response(status=204)


async def _answer(
    context: Context, request: web.Request, path: ContentPath, target: ContentPath, max_age: int | None
) -> web.StreamResponse:
    root = Cid.parse(target.root).require_supported()
    wanted = _negotiate(context, request)
    if wanted.form is Form.RECORD:
        raise UsageError("records are those of names: /ipns/NAME?format=ipns-record")
    local_only = "only-if-cached" in request.headers.get("Cache-Control", "").lower()
    try:
        found = await context.node.content.resolve(root, target.parts, local_only=local_only)
        if found.remainder and wanted.form is not Form.CAR:
            raise NotImplementedHere(
                f"{'/'.join(found.remainder)[:200]!r} is a value within the document {found.cid}",
                hint="ask for the document, or with ?format=car for the blocks that prove the value",
            )
        return await _dispatch(Ask(context.node, request, path, wanted, found, local_only, max_age))
    except BlockMissing as error:
        hint = "without `Cache-Control: only-if-cached` it would be fetched"
        raise PreconditionFailed(str(error), hint=hint) from None


async def _dispatch(ask: Ask) -> web.StreamResponse:
    form = ask.wanted.form
    if form is Form.RAW:
        return await blocks.raw(ask)
    if form is Form.CAR:
        return await blocks.car(ask)
    if form is Form.TAR:
        return await blocks.tar(ask)
    if ask.cid.codec in (RAW, DAG_PB):
        if form in (Form.DAG_JSON, Form.DAG_CBOR):
            raise NotAcceptable(f"{ask.cid} is no document of {form}", hint="documents aren't converted")
        return await content.unixfs(ask)
    return await codecs.document(ask)


def _negotiate(context: Context, request: web.Request) -> Wanted:
    """Raises UsageError, and NotAcceptable or NotFound for what the settings leave out."""
    served = context.node.config.api.gateway
    if served is Gateway.OFF:
        raise NotFound("this node serves no gateway", hint="api.gateway in its config.toml says so")
    wanted = negotiate(request.query.get("format"), ",".join(request.headers.getall("Accept", [])))
    if served is Gateway.TRUSTLESS and wanted.form not in TRUSTLESS:
        raise NotAcceptable(
            "this gateway sends blocks that can be verified, as car or raw",
            hint="add ?format=car or ?format=raw, or `mpisa get CID -o FILE` for the content itself",
        )
    return wanted


def _send_record(request: web.Request, path: ContentPath, record: IpnsRecord) -> web.StreamResponse:
    name = request.query.get("filename") or f"{path.root}.ipns-record"
    headers = {
        "Etag": f'"{tag_of(record.raw)}.ipns-record"',
        "Content-Type": TYPES[Form.RECORD],
        "Content-Disposition": disposition("attachment", name),
        "Cache-Control": f"public, max-age={seconds_to_keep(record)}",
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "X-Ipfs-Path": str(path),
        "Vary": "Accept",
    }
    return send_bytes(request, record.raw, headers)


_TEXT: Final = {"type": "string", "maxLength": 255}
_QUERY: Final = (
    Query("format", {"type": "string", "enum": [form.value for form in TYPES]}, "Wins over the Accept header."),
    Query("filename", _TEXT, "The name to save it under."),
    Query("download", {"type": "boolean"}, "`true`: to be saved, not to be shown."),
    Query("dag-scope", {"type": "string", "enum": ["block", "entity", "all"]}, "What of the DAG a CAR has; all."),
    Query("entity-bytes", {"type": "string", "maxLength": 41}, "FROM:TO of a file, for a CAR of its scope entity."),
    Query("car-order", {"type": "string", "enum": ["dfs", "unk"]}, "It is depth first anyway."),
    Query("car-dups", {"type": "string", "enum": ["y", "n"]}, "Whether a block comes as often as it is linked; y."),
    Query("after", {"type": "string"}, "Of a listing: the names behind this one."),
)
_PRODUCES: Final = ("application/octet-stream", "text/html", *TYPES.values())
_ERRORS: Final = (404, 406, 412, 413, 416, 422, 501, 502, 503, 504)
_IPFS: Final = (
    "A file, a directory's listing or its index.html, a document; in another form by `format` or Accept. Missing "
    "blocks are fetched from peers, hashed and stored on the way. An answer that can't be finished breaks the "
    "connection. docs/gateway.md says more."
)
_IPNS: Final = "As /ipfs, from where the name's record points; `format=ipns-record` gives the record itself."
_PUT: Final = (
    "Keeps the name's record if its owner signed it, it hasn't run out, and no later one is here. It isn't published."
)


def _reading(path: str, handler: Handler, summary: str, description: str) -> tuple[Route, ...]:
    """GET and HEAD of a root, and of what lies below it."""
    return tuple(
        Route(
            method,
            path + below,
            handler,
            summary,
            "gateway",
            description=description,
            query=_QUERY,
            produces=_PRODUCES,
            errors=_ERRORS,
            open_ended=bool(below),
        )
        for below in ("", "/{path}")
        for method in ("GET", "HEAD")
    )


ROUTES: tuple[Route, ...] = (
    *_reading("/ipfs/{cid}", ipfs, "What lies behind a CID and a path", _IPFS),
    *_reading("/ipns/{name}", ipns, "What lies behind an IPNS name and a path", _IPNS),
    Route(
        "PUT",
        "/v1/ipns/{name}",
        put_record,
        "Keep an IPNS record",
        "gateway",
        status=204,
        description=_PUT,
        consumes=(TYPES[Form.RECORD],),
        produces=(),
        errors=(409, 413, 422, 507),
    ),
)
