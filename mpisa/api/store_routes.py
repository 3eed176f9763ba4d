"""The block store as a whole: garbage collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from mpisa.api.routing import Answer, Context, Route, read_json
from mpisa.sdk import models

if TYPE_CHECKING:
    from storage.gc import GcReport


class GcRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`dry_run`: only say what would go."""

    dry_run: bool = False


async def collect(context: Context, request: web.Request) -> Answer:
    wanted = await read_json(request, GcRequest)
    return _result(await context.node.collect(dry_run=wanted.dry_run))


async def collection(context: Context, request: web.Request) -> Answer:
    state = context.node.collection()
    last = None if state.last is None else _result(state.last)
    return models.GcState(running=state.running, phase=state.phase, done=state.done, total=state.total, last=last)


def _result(report: GcReport) -> models.GcResult:
    found = {name: getattr(report, name) for name in models.GcResult.__struct_fields__}
    return models.GcResult(**found | {"missing": tuple(str(cid) for cid in report.missing)})


ROUTES = (
    Route(
        "POST",
        "/v1/gc",
        collect,
        "Collect garbage",
        "node",
        models.GcResult,
        description="Forgets what no pin keeps and nothing under way holds, however young. Answers when it is done, "
        "after a collection that is under way; reads and writes go on meanwhile.",
        body=GcRequest,
        consumes=("application/json",),
        errors=(422, 503, 507),
    ),
    Route("GET", "/v1/gc", collection, "How far a collection is, and the last one", "node", models.GcState),
)
