"""Health, readiness, metrics, and what a node says of itself."""

from __future__ import annotations

from aiohttp import web

from mpisa.api import convert, metrics
from mpisa.api.routing import Answer, Context, Route
from mpisa.sdk import models


async def health(context: Context, request: web.Request) -> Answer:
    return models.Health(status="ok")


async def ready(context: Context, request: web.Request) -> Answer:
    fine, reasons = context.node.ready()
    answer = models.Readiness(ready=fine, reasons=tuple(reasons))
    return web.json_response(answer.to_dict(), status=200 if fine else 503)


async def metrics_text(context: Context, request: web.Request) -> Answer:
    return web.Response(body=context.metrics.text(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def node(context: Context, request: web.Request) -> Answer:
    return convert.node_info(context.node.status())


async def peers(context: Context, request: web.Request) -> Answer:
    return convert.peers(context.node.peers())


ROUTES = (
    Route("GET", "/healthz", health, "The process answers", "node", models.Health),
    Route(
        "GET",
        "/readyz",
        ready,
        "Whether the node serves, and if not, why",
        "node",
        models.Readiness,
        also={503: models.Readiness},
    ),
    Route("GET", "/metrics", metrics_text, "Counters for Prometheus", "node", produces=("text/plain",)),
    Route("GET", "/v1/node", node, "What the node says of itself", "node", models.NodeInfo),
    Route("GET", "/v1/peers", peers, "The peers it knows", "node", models.Peers),
)
