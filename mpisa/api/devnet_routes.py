"""Faults of a devnet's links; these routes exist only where config.toml says `devnet = true`."""

from __future__ import annotations

import msgspec
from aiohttp import web

from mpisa.api.routing import Answer, Context, Route, read_json
from mpisa.node.views import LinkFault
from mpisa.sdk import models


class FaultRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All faults that are to be in force; peers that aren't named have none."""

    faults: tuple[models.LinkFault, ...]


async def faults(context: Context, request: web.Request) -> Answer:
    return _answer(context)


async def set_faults(context: Context, request: web.Request) -> Answer:
    wanted: FaultRequest = await read_json(request, FaultRequest)
    await context.node.set_link_faults(
        [LinkFault(item.peer_id, item.cut, item.delay_ms, item.jitter_ms, item.drop_percent) for item in wanted.faults]
    )
    return _answer(context)


def _answer(context: Context) -> Answer:
    return models.LinkFaults(
        faults=tuple(
            models.LinkFault(
                peer_id=item.peer_id,
                cut=item.cut,
                delay_ms=item.delay_ms,
                jitter_ms=item.jitter_ms,
                drop_percent=item.drop_percent,
            )
            for item in context.node.link_faults()
        )
    )


ROUTES = (
    Route("GET", "/v1/devnet/faults", faults, "What this node does to its own links", "devnet", models.LinkFaults),
    Route(
        "PUT",
        "/v1/devnet/faults",
        set_faults,
        "Break links, or heal them",
        "devnet",
        models.LinkFaults,
        description="These faults and no others are in force until the next call or until the node ends.",
        body=FaultRequest,
        consumes=("application/json",),
        errors=(422,),
    ),
)
