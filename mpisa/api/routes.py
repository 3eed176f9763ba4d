"""Every route: what the server registers and what /openapi.json says, from one table."""

from __future__ import annotations

import msgspec
from aiohttp import web

from mpisa.api import artefact_routes, blob_routes, chain_routes, event_routes, node_routes, transaction_routes
from mpisa.api.openapi import describe
from mpisa.api.routing import Answer, Context, Route


async def openapi(context: Context, request: web.Request) -> Answer:
    return web.Response(body=document(), content_type="application/json")


ROUTES: tuple[Route, ...] = (
    *node_routes.ROUTES,
    Route("GET", "/openapi.json", openapi, "This description", "node"),
    *chain_routes.ROUTES,
    *transaction_routes.ROUTES,
    *artefact_routes.ROUTES,
    *blob_routes.ROUTES,
    *event_routes.ROUTES,
)


def document() -> bytes:
    """The OpenAPI document of ROUTES."""
    return msgspec.json.encode(describe(ROUTES))
