"""Answers that a receiver can verify, raw blocks and CARs, and trees as tar archives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.api.gateway.headers import SANDBOX, tag_of
from mpisa.api.gateway.negotiation import TYPES, Form
from mpisa.api.gateway.sending import not_modified, send_bytes, send_headers, send_stream
from mpisa.api.problems import NotAcceptable
from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW
from mpisa.primitives.selection import Scope, Selection, parse_selection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

    from mpisa.api.gateway.asking import Ask


async def raw(ask: Ask) -> web.StreamResponse:
    """The block that the path leads to, as it is."""
    headers = ask.headers(f'"{ask.cid}.raw"', TYPES[Form.RAW], SANDBOX) | ask.disposition("bin", inline=False)
    if ask.local_only or len(ask.found.roots) > 1 or ask.cid.digest_code == IDENTITY:
        block = await ask.node.content.block(ask.cid, local_only=ask.local_only)
    else:
        block = await ask.node.blobs.block(ask.cid)  # the shortest way, for what asks for blocks one by one
    return send_bytes(ask.request, block, headers)


async def car(ask: Ask) -> web.StreamResponse:
    """The blocks of the path and what is selected below it, depth first, the same bytes each time."""
    selection = parse_selection(ask.request.query, ask.wanted.parameters)
    duplicates = "y" if selection.duplicates else "n"
    root = ask.found.roots[0]
    what = tag_of(ask.path.parts, ask.cid, selection.scope.value, str(selection.entity_bytes), duplicates)
    kind = f"{TYPES[Form.CAR]}; version=1; order=dfs; dups={duplicates}"
    headers = ask.headers(f'"{root}.car.{what}"', kind, SANDBOX) | ask.disposition("car", inline=False)
    headers["Accept-Ranges"] = "none"
    same = not_modified(ask.request, headers)
    if same is not None:
        return same
    if ask.request.method == "HEAD" or ask.local_only:
        await ask.node.content.block(ask.cid, local_only=ask.local_only)
    if ask.request.method == "HEAD":
        return await send_headers(ask.request, headers)
    return await send_stream(ask.request, _car_parts(ask, selection), headers, limit=ask.limit)


def _car_parts(ask: Ask, selection: Selection) -> AsyncIterator[bytes]:
    whole = selection.scope is Scope.ALL and selection.duplicates and len(ask.found.roots) == 1
    if whole and not ask.found.path_blocks and not ask.local_only:
        return ask.node.blobs.car(ask.cid)  # the same bytes, fetched ahead over all of the DAG
    return ask.node.content.car(ask.found, selection, local_only=ask.local_only)


async def tar(ask: Ask) -> web.StreamResponse:
    """The file or tree below a top name, which is its CID."""
    if ask.cid.codec not in (RAW, DAG_PB):
        raise NotAcceptable(f"{ask.cid} is neither a file nor a directory, so there is no archive of it")
    headers = ask.headers(f'W/"{ask.cid}.x-tar"', TYPES[Form.TAR], SANDBOX) | ask.disposition("tar", inline=False)
    headers["Accept-Ranges"] = "none"
    same = not_modified(ask.request, headers)
    if same is not None:
        return same
    if ask.request.method == "HEAD":
        await ask.node.content.stat(ask.cid, local_only=ask.local_only)
        return await send_headers(ask.request, headers)
    parts = ask.node.content.tar(ask.cid, str(ask.cid), local_only=ask.local_only)
    return await send_stream(ask.request, parts, headers, limit=ask.limit)
