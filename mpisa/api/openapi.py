"""The OpenAPI 3.1 document, made from the route table and the types of the answers: it can't drift from either."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mpisa._version import __version__
from mpisa.sdk.models import Problem
from mpisa.sdk.problems import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpisa.api.routing import Route

TITLE: Final = "MPISA node"
ABOUT: Final = (
    "The HTTP interface of one MPISA node. Errors are problem details (RFC 9457) with a stable `code` and a `hint`. "
    "What writes needs `Authorization: Bearer TOKEN`. Hashes, keys and encoded bytes are lower-case hex without a "
    "prefix, addresses 0x and 40 hex digits, times milliseconds since the Unix epoch."
)
ALWAYS: Final = (400, 403, 500)

_REFERENCE: Final = "#/components/schemas/{name}"
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_PATH_PARAMETERS: Final = {
    "address": "0x and 40 hex digits.",
    "block": "A height, or a header hash of 64 hex digits.",
    "cid": "A CID, version 0 or 1.",
    "epoch": "An epoch's number, from 0.",
    "hash": "A transaction's hash, 64 hex digits.",
    "key": "A state key in hex.",
    "vertex": "The id of a vertex in hex, or the first digits of it.",
    "model": "The model part of a name.",
    "name": "An IPNS name: a CID of a libp2p key, or its multihash in base58.",
    "owner": "The owner part of a name.",
    "path": "Names below the root, with slashes between them.",
}


def describe(routes: Sequence[Route]) -> dict[str, Any]:
    """The document as plain data."""
    types: list[Any] = [Problem]
    for route in routes:
        types += [kind for kind in (route.answer, route.body, *route.also.values()) if kind is not None]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    named = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": ABOUT, "license": {"name": "Apache-2.0"}},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "HOME/api.token"}},
        },
    }


def _operation(route: Route, named: dict[int, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{route.handler.__name__}{'_below' if route.open_ended else ''}",
        "summary": route.summary,
        "tags": [route.tag],
        "responses": _responses(route, named),
    }
    if route.description:
        operation["description"] = route.description
    parameters = [_path_parameter(name) for name in _PARAMETER.findall(route.path)]
    parameters += [
        {"name": query.name, "in": "query", "schema": query.schema, "description": query.description}
        for query in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.writes:
        operation["security"] = [{"token": []}]
    if route.consumes:
        schema = {"type": "string", "format": "binary"} if route.body is None else named[id(route.body)]
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": schema} for kind in route.consumes},
        }
    return operation


def _path_parameter(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": _PATH_PARAMETERS[name]}


def _responses(route: Route, named: dict[int, Any]) -> dict[str, Any]:
    schema = {"type": "object"} if route.answer is None else named[id(route.answer)]
    typed = route.answer is not None
    content = {kind: {"schema": schema if typed or kind == "application/json" else {}} for kind in route.produces}
    success: dict[str, Any] = {"description": route.summary}
    if content:
        success["content"] = content
    responses = {str(route.status): success}
    for status, kind in route.also.items():
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {"application/json": {"schema": named[id(kind)]}},
        }
    own = (401, 415) if route.consumes else (401,) if route.writes else ()
    problem = {CONTENT_TYPE: {"schema": named[id(Problem)]}}
    for status in sorted({*ALWAYS, *own, *route.errors}):
        responses.setdefault(str(status), {"description": HTTPStatus(status).phrase, "content": problem})
    return responses
