"""The recent DAG: rounds, verdicts, authorities, and single vertices."""

from __future__ import annotations

import time
from typing import Final

from aiohttp import web

from consensus.survey import MAX_ROUNDS, Part, SeenRound
from mpisa.api.routing import Answer, Context, Query, Route, read_hex, read_int
from mpisa.node.views import DagView
from mpisa.primitives.identifiers import format_address
from mpisa.sdk import models

DEFAULT_ROUNDS: Final = 24
ID_BYTES: Final = 32


async def dag(context: Context, request: web.Request) -> Answer:
    rounds = read_int(request, "rounds", DEFAULT_ROUNDS, 1, MAX_ROUNDS) or DEFAULT_ROUNDS
    view = context.node.dag(rounds)
    survey = view.survey
    return models.Dag(
        epoch=survey.epoch,
        own=view.own,
        gc_round=survey.gc_round,
        commit_index=survey.commit_index,
        now_ms=time.time_ns() // 1_000_000,
        rounds=tuple(_round(item) for item in survey.rounds),
        authorities=tuple(_authority(view, part) for part in survey.parts),
    )


def _round(found: SeenRound) -> models.DagRound:
    return models.DagRound(
        round=found.number,
        vertices=tuple(
            models.DagVertex(
                id=item.id.hex(),
                author=item.author,
                time_ms=item.time_ms,
                parents=len(item.parents),
                payload_bytes=item.payload_bytes,
                signatures=item.signatures,
                committed=item.committed,
            )
            for item in found.vertices
        ),
        slots=tuple(
            models.DagSlot(
                number=item.number,
                authority=item.authority,
                verdict=item.verdict.value,
                final=item.final,
                vertex=None if item.vertex is None else item.vertex.hex(),
            )
            for item in found.slots
        ),
    )


def _authority(view: DagView, part: Part) -> models.DagAuthority:
    return models.DagAuthority(
        index=part.authority,
        name=view.names[part.authority],
        address=format_address(view.addresses[part.authority]),
        power=part.power,
        last_round=part.last_round,
        last_ms=part.last_ms,
        vertices=part.vertices,
        asked=part.asked,
        voted=part.voted,
        led=part.led,
        committed=part.committed,
        skipped=part.skipped,
        points=part.points,
        suspended_until=part.suspended_until,
        suspect=part.suspect,
        equivocator=part.equivocator,
    )


async def vertex(context: Context, request: web.Request) -> Answer:
    found = context.node.vertex(read_hex(request.match_info["vertex"], "vertex", max_length=ID_BYTES))
    seen = found.seen
    return models.DagVertexDetail(
        id=seen.id.hex(),
        epoch=found.epoch,
        round=seen.round,
        author=seen.author,
        author_name=found.author_name,
        time_ms=seen.time_ms,
        committed=seen.committed,
        payload_bytes=seen.payload_bytes,
        signatures=seen.signatures,
        size_bytes=found.size_bytes,
        transactions=found.transactions,
        evidence=found.evidence,
        parents=tuple(
            models.DagRef(round=number, author=author, id=identifier.hex())
            for number, author, identifier in seen.parents
        ),
    )


_ROUNDS: Final = Query(
    "rounds",
    {"type": "integer", "minimum": 1, "maximum": MAX_ROUNDS},
    f"How many rounds at most; {DEFAULT_ROUNDS}. A large committee gets fewer.",
)

ROUTES = (
    Route(
        "GET",
        "/v1/chain/dag",
        dag,
        "The recent DAG, with verdicts and each authority's part",
        "chain",
        models.Dag,
        query=(_ROUNDS,),
        errors=(503,),
    ),
    Route(
        "GET",
        "/v1/chain/dag/{vertex}",
        vertex,
        "A vertex of the recent DAG by its id, or the first digits of it",
        "chain",
        models.DagVertexDetail,
        errors=(404, 503),
    ),
)
