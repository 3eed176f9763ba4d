"""Provenance records, lineage and names.

A record may take a millisecond to decode and an answer may hold a thousand: that happens in a thread of its own, so
that the node goes on meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from mpisa.api import convert
from mpisa.api.routing import CURSOR, LIMIT, MAX_STATE_KEY_BYTES, Answer, Context, Query, Route, read_hex, read_limit
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound
from mpisa.primitives.identifiers import DEFAULT_TAG, MAX_TAG_LENGTH, ArtefactName
from mpisa.primitives.state_keys import name_key
from mpisa.provenance.lineage import walk_lineage
from mpisa.sdk import models
from mpisa.sdk.light import artefact_of

if TYPE_CHECKING:
    from mpisa.node.facade import ChainView
    from mpisa.node.views import RecordView

MAX_DERIVED: Final = 500
"""Records that name an artefact as an input, shown in its lineage."""


async def artefacts(context: Context, request: web.Request) -> Answer:
    cursor = request.query.get("cursor")
    start = None if cursor is None else read_hex(cursor, "cursor", max_length=MAX_STATE_KEY_BYTES)
    return await asyncio.to_thread(_page, context.node.chain, start, read_limit(request))


async def artefact(context: Context, request: web.Request) -> Answer:
    return await asyncio.to_thread(_artefact, context.node.chain, Cid.parse(request.match_info["cid"]))


async def lineage(context: Context, request: web.Request) -> Answer:
    return await asyncio.to_thread(_lineage, context.node.chain, Cid.parse(request.match_info["cid"]))


async def name(context: Context, request: web.Request) -> Answer:
    wanted = ArtefactName(
        request.match_info["owner"], request.match_info["model"], request.query.get("tag", DEFAULT_TAG)
    )
    value = context.node.chain.state(name_key(wanted))
    if value is None:
        raise NotFound(f"no such name: {wanted}", hint="`mpisa publish PATH --name OWNER/MODEL@TAG` sets one")
    return convert.name(wanted, value)


def _page(chain: ChainView, start: bytes | None, limit: int) -> models.ArtefactPage:
    page = chain.records(start, limit)
    return models.ArtefactPage(
        artefacts=tuple(artefact_of(record.stored) for record in page.records),
        next=None if page.next_cursor is None else page.next_cursor.hex(),
    )


def _artefact(chain: ChainView, cid: Cid) -> models.ArtefactRecords:
    return models.ArtefactRecords(
        cid=str(cid), records=tuple(artefact_of(view.stored) for view in _records(chain, cid))
    )


def _lineage(chain: ChainView, root: Cid) -> models.Lineage:
    """What `walk_lineage` finds below the root; then what was made from the root directly."""
    _records(chain, root)
    below = walk_lineage(root, lambda cid: [view.stored for view in _earliest_first(chain.records_of(cid))])
    records = {(record.record.subject, record.publisher): record for node in below.nodes for record in node.records}
    edges = {_edge(edge.target, edge.source, edge.role, edge.relation): None for edge in below.edges}
    derived = chain.derived_from(root, MAX_DERIVED + 1)
    for view in derived[:MAX_DERIVED]:
        records.setdefault((view.cid, view.stored.publisher), view.stored)
        for item in view.stored.record.inputs:
            if item.cid == root:
                edges[_edge(str(root), str(view.cid), item.role, item.relation)] = None
    return models.Lineage(
        cid=str(root),
        artefacts=tuple(artefact_of(record) for record in records.values()),
        edges=tuple(edges),
        truncated=below.truncated or len(derived) > MAX_DERIVED,
    )


def _edge(source: str, target: str, role: str, relation: str) -> models.LineageEdge:
    """Only an external name holds a colon."""
    return models.LineageEdge(source=source, target=target, role=role, relation=relation, resolved=":" not in source)


def _records(chain: ChainView, cid: Cid) -> list[RecordView]:
    records = _earliest_first(chain.records_of(cid))
    if not records:
        raise NotFound(f"no record about {cid}", hint="`mpisa publish PATH` registers what it stores")
    return records


def _earliest_first(records: tuple[RecordView, ...]) -> list[RecordView]:
    return sorted(records, key=lambda view: (view.stored.first_time_ms, view.stored.publisher))


_TAG: Final = Query("tag", {"type": "string", "maxLength": MAX_TAG_LENGTH}, f"The tag; {DEFAULT_TAG}.")

ROUTES = (
    Route(
        "GET",
        "/v1/artefacts",
        artefacts,
        "Every provenance record, page by page",
        "artefacts",
        models.ArtefactPage,
        query=(CURSOR, LIMIT),
    ),
    Route(
        "GET",
        "/v1/artefacts/{cid}",
        artefact,
        "Every record about a CID, the earliest claim first",
        "artefacts",
        models.ArtefactRecords,
        errors=(404,),
    ),
    Route(
        "GET",
        "/v1/artefacts/{cid}/lineage",
        lineage,
        "What it was made from and supersedes, all the way down, and what was made from it directly",
        "artefacts",
        models.Lineage,
        errors=(404,),
    ),
    Route(
        "GET",
        "/v1/names/{owner}/{model}",
        name,
        "What a name points to",
        "artefacts",
        models.Name,
        query=(_TAG,),
        errors=(404,),
    ),
)
