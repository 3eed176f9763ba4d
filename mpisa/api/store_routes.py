"""The block store as a whole: garbage collection, hashing everything again, what is wrong with the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from mpisa.api.routing import Answer, Context, Route, read_json
from mpisa.node.diagnosis import diagnose
from mpisa.sdk import models

if TYPE_CHECKING:
    from storage.blockstore import VerifyReport
    from storage.gc import GcReport

MAX_DAMAGES: Final = 100


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


async def verify(context: Context, request: web.Request) -> Answer:
    return _check(await context.node.verify())


async def verification(context: Context, request: web.Request) -> Answer:
    state = context.node.verification()
    last = None if state.last is None else _check(state.last)
    return models.StoreCheckState(running=state.running, done=state.done, total=state.total, last=last)


def _check(report: VerifyReport) -> models.StoreCheck:
    damages = (
        models.StoreDamage(file=d.file, offset=d.offset, reason=d.reason, cid=None if d.cid is None else str(d.cid))
        for d in report.damages[:MAX_DAMAGES]
    )
    return models.StoreCheck(
        blocks=report.blocks, bytes_hashed=report.bytes_hashed, damaged=report.damaged, damages=tuple(damages)
    )


async def doctor(context: Context, request: web.Request) -> Answer:
    facts = await context.node.facts()
    findings = (models.Finding(what=f.what, why=f.why, do=f.do) for f in diagnose(facts))
    return models.Diagnosis(findings=tuple(findings), pins=facts.pins, pins_checked=facts.pins_checked)


ROUTES = (
    Route(
        "POST",
        "/v1/verify",
        verify,
        "Hash every block again",
        "node",
        models.StoreCheck,
        description="Reads and writes go on meanwhile. Answers when it is done; one runs at a time.",
        errors=(503,),
    ),
    Route("GET", "/v1/verify", verification, "How far a verification is", "node", models.StoreCheckState),
    Route("GET", "/v1/doctor", doctor, "What is wrong, and what to do", "node", models.Diagnosis, errors=(503,)),
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
