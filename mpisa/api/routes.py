"""Every route: what the server registers and what /openapi.json says, from one table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from mpisa.api import (
    artefact_routes,
    blob_routes,
    chain_routes,
    dag_routes,
    devnet_routes,
    event_routes,
    node_routes,
    store_routes,
    transaction_routes,
)
from mpisa.api.gateway import routes as gateway_routes
from mpisa.api.openapi import describe
from mpisa.api.routing import Answer, Context, Route

if TYPE_CHECKING:
    from mpisa.config import NodeConfig


async def openapi(context: Context, request: web.Request) -> Answer:
    return web.Response(body=document(routes_of(context.node.config)), content_type="application/json")


ROUTES: tuple[Route, ...] = (
    *node_routes.ROUTES,
    *store_routes.ROUTES,
    Route("GET", "/openapi.json", openapi, "This description", "node"),
    *chain_routes.ROUTES,
    *dag_routes.ROUTES,
    *transaction_routes.ROUTES,
    *artefact_routes.ROUTES,
    *blob_routes.ROUTES,
    *gateway_routes.ROUTES,
    *event_routes.ROUTES,
)


def routes_of(config: NodeConfig) -> tuple[Route, ...]:
    """What a node with these settings serves."""
    return (*ROUTES, *devnet_routes.ROUTES) if config.devnet else ROUTES


def document(routes: tuple[Route, ...] = ROUTES) -> bytes:
    """The OpenAPI document of these routes."""
    return msgspec.json.encode(describe(routes))
