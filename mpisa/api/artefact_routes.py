"""Provenance records, lineage and names."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from aiohttp import web

from mpisa.api import convert
from mpisa.api.routing import CURSOR, LIMIT, MAX_STATE_KEY_BYTES, Answer, Context, Query, Route, read_hex, read_limit
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound
from mpisa.primitives.identifiers import DEFAULT_TAG, MAX_TAG_LENGTH, ArtefactName
from mpisa.primitives.state_keys import name_key
from mpisa.sdk import models

if TYPE_CHECKING:
    from mpisa.node.facade import ChainView
    from mpisa.node.views import RecordView

MAX_LINEAGE_ARTEFACTS: Final = 1_000
MAX_LINEAGE_EDGES: Final = 10_000


async def artefacts(context: Context, request: web.Request) -> Answer:
    cursor = request.query.get("cursor")
    start = None if cursor is None else read_hex(cursor, "cursor", max_length=MAX_STATE_KEY_BYTES)
    page = context.node.chain.records(start, read_limit(request))
    return models.ArtefactPage(
        artefacts=tuple(convert.artefact(record) for record in page.records),
        next=None if page.next_cursor is None else page.next_cursor.hex(),
    )


async def artefact(context: Context, request: web.Request) -> Answer:
    cid = Cid.parse(request.match_info["cid"])
    records = _records(context.node.chain, cid)
    return models.ArtefactRecords(cid=str(cid), records=tuple(convert.artefact(record) for record in records))


async def lineage(context: Context, request: web.Request) -> Answer:
    cid = Cid.parse(request.match_info["cid"])
    _records(context.node.chain, cid)
    return walk_lineage(context.node.chain, cid, MAX_LINEAGE_ARTEFACTS, MAX_LINEAGE_EDGES)


async def name(context: Context, request: web.Request) -> Answer:
    wanted = ArtefactName(
        request.match_info["owner"], request.match_info["model"], request.query.get("tag", DEFAULT_TAG)
    )
    value = context.node.chain.state(name_key(wanted))
    if value is None:
        raise NotFound(f"no such name: {wanted}", hint="`mpisa publish PATH --name OWNER/MODEL@TAG` sets one")
    return convert.name(wanted, value)


def walk_lineage(chain: ChainView, root: Cid, max_artefacts: int, max_edges: int) -> models.Lineage:
    """Breadth first over inputs, all the way down; then what was made from the root directly."""
    records: list[models.Artefact] = []
    edges: dict[tuple[str, str, str, str], models.LineageEdge] = {}
    seen = {root}
    pending = deque([root])
    truncated = False
    while pending:
        for view in _earliest_first(chain.records_of(pending.popleft())):
            if len(records) >= max_artefacts or len(edges) >= max_edges:
                truncated = True
                pending.clear()
                break
            records.append(convert.artefact(view))
            _add_edges(edges, view)
            for item in view.stored.record.inputs:
                if item.cid is not None and item.cid not in seen:
                    seen.add(item.cid)
                    pending.append(item.cid)
    derived = chain.derived_from(root, max_artefacts)
    for view in derived:
        if len(records) >= max_artefacts or len(edges) >= max_edges:
            truncated = True
            break
        if view.cid not in seen:
            records.append(convert.artefact(view))
        _add_edges(edges, view, only=root)
    return models.Lineage(cid=str(root), artefacts=tuple(records), edges=tuple(edges.values()), truncated=truncated)


def _add_edges(
    edges: dict[tuple[str, str, str, str], models.LineageEdge], view: RecordView, only: Cid | None = None
) -> None:
    for item in view.stored.record.inputs:
        if only is not None and item.cid != only:
            continue
        source = str(item.cid)
        if item.external is not None:
            revision = "" if item.external.revision is None else f"@{item.external.revision}"
            source = f"{item.external.hub}:{item.external.repo}{revision}"
        edge = models.LineageEdge(
            source=source,
            target=str(view.cid),
            role=item.role,
            relation=item.relation,
            resolved=item.cid is not None,
        )
        edges.setdefault((edge.source, edge.target, edge.role, edge.relation), edge)


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
        "What it was made from, all the way down, and what was made from it directly",
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
