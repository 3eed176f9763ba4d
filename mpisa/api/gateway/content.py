"""Files, directories and symlinks, as a browser shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from mpisa.api.gateway.headers import OWN_PAGE, SANDBOX, tag_of
from mpisa.api.gateway.media import BINARY, HEAD_BYTES, type_of_bytes, type_of_name
from mpisa.api.gateway.negotiation import HTML
from mpisa.api.gateway.pages import PAGE_VERSION, directory_page
from mpisa.api.gateway.sending import not_modified, send_bytes, send_headers, send_stream, span_of
from mpisa.node.reading import BlockMissing
from mpisa.primitives.errors import NotFound
from storage.reader import Kind

if TYPE_CHECKING:
    from mpisa.api.gateway.asking import Ask
    from mpisa.primitives.cid import Cid
    from storage.reader import Stat

INDEX: Final = "index.html"
LISTED: Final = 1_000
"""Names on one page of a listing."""


async def unixfs(ask: Ask) -> web.StreamResponse:
    """What the path leads to."""
    found = await ask.node.content.stat(ask.cid, local_only=ask.local_only)
    if found.kind == Kind.FILE:
        return await _file(ask, found, f'"{ask.cid}"', ask.path.parts[-1] if ask.path.parts else "")
    if found.kind == Kind.DIRECTORY:
        return await _directory(ask)
    headers = ask.headers(f'"{ask.cid}"', "inode/symlink", SANDBOX)
    return send_bytes(ask.request, (found.target or "").encode(), headers)


async def _directory(ask: Ask) -> web.StreamResponse:
    if not ask.path.slash:
        query = ask.request.rel_url.raw_query_string
        location = f"{ask.path}/{'?' if query else ''}{query}"
        return web.Response(status=301 if ask.max_age is None else 302, headers={"Location": location})
    index = await _index(ask)
    if index is not None:
        return await _file(ask, index, f'"{ask.cid}"', INDEX)
    after = ask.request.query.get("after")
    part = "" if after is None else f"-{tag_of(after)}"
    headers = ask.headers(
        f'"DirIndex-{PAGE_VERSION}{part}_CID-{ask.cid}"', f"{HTML}; charset=utf-8", OWN_PAGE, generated=True
    )
    same = not_modified(ask.request, headers)
    if same is not None:
        return same
    page = await ask.node.content.names(ask.cid, LISTED, after, local_only=ask.local_only)
    return send_bytes(ask.request, directory_page(ask.path, page), headers)


async def _index(ask: Ask) -> Stat | None:
    """The file that stands for the directory."""
    content = ask.node.content
    try:
        found = await content.resolve(ask.cid, (INDEX,), local_only=ask.local_only)
    except BlockMissing:
        raise
    except NotFound:
        return None
    stat = await content.stat(found.cid, local_only=ask.local_only)
    return stat if stat.kind == Kind.FILE else None


async def _file(ask: Ask, found: Stat, tag: str, name: str) -> web.StreamResponse:
    kind = await _kind_of(ask, found.cid, found.size, ask.file_name or name)
    headers = ask.headers(tag, kind, SANDBOX) | ask.disposition(None, inline=True) | {"Accept-Ranges": "bytes"}
    same = not_modified(ask.request, headers)
    if same is not None:
        return same
    span = span_of(ask.request, headers, found.size)
    status, (first, end) = (200, (0, found.size)) if span is None else (206, span)
    if span is not None:
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{found.size}"
    if ask.request.method == "HEAD":
        return await send_headers(ask.request, headers, status=status, length=end - first)
    parts = ask.node.content.file(found.cid, first, end - first, local_only=ask.local_only)
    return await send_stream(ask.request, parts, headers, limit=ask.limit, status=status, length=end - first)


async def _kind_of(ask: Ask, cid: Cid, size: int, name: str) -> str:
    """The Content-Type; the file's beginning is read only where its name says nothing."""
    known = type_of_name(name)
    if known is not None:
        return known
    parts = ask.node.content.file(cid, 0, min(size, HEAD_BYTES), local_only=ask.local_only)
    try:
        head = b"".join([part async for part in parts])
    except NotFound:
        if ask.request.headers.get("Range") is None:
            raise
        return BINARY  # the part that is wanted may be there all the same
    return type_of_bytes(head, whole=len(head) == size)
