"""What is documented is what is served, and answers fit their schemas."""

from __future__ import annotations

import re

import aiohttp
import msgspec

from mpisa.api.routes import ROUTES, document
from mpisa.api.server import ApiServer
from mpisa.primitives.cid import Cid
from mpisa.sdk.models import Problem
from tests.api.fake_node import FakeLedger, FakeNode, key_of
from tests.api.test_server import publish_transaction

ANY_CID = str(Cid.of(b"model"))
EXAMPLES = {
    "epoch": "0",
    "address": f"0x{key_of('alice').address.hex()}",
    "block": "1",
    "cid": ANY_CID,
    "hash": "00" * 32,
    "key": "00",
    "model": "demo",
    "name": "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",
    "owner": "alice",
    "path": "below/it",
    "vertex": "00000000",
}


def fill(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: EXAMPLES[found[1]], path)


async def test_served_and_documented_are_the_same(server: ApiServer) -> None:
    assert server._runner is not None
    served = {(route.method, route.resource.canonical) for route in server._runner.app.router.routes()}  # type: ignore[union-attr]
    described = msgspec.json.decode(document())
    documented = {(method.upper(), path) for path, methods in described["paths"].items() for method in methods}
    assert served == documented == {(route.method, route.path) for route in ROUTES}


async def test_every_route_answers_as_documented(
    node: FakeNode, ledger: FakeLedger, server: ApiServer, http: aiohttp.ClientSession
) -> None:
    ledger.append([publish_transaction(ledger, Cid.of(b"model"))])
    described = await (await http.get("/openapi.json")).json()
    seen = set()
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            kinds = list(operation.get("requestBody", {}).get("content", {}))
            headers = {"Content-Type": kinds[0]} if kinds else {}
            async with http.request(method, fill(path), headers=headers, data=b"{}" if kinds else None) as answer:
                status = str(answer.status)
                assert status in operation["responses"], (method, path, status)
                content = operation["responses"][status].get("content", {})
                assert answer.content_type in content or (status == "204" and not content), (method, path)
                if path != "/v1/events":
                    body = await answer.read()
                if method == "head":
                    assert not body
                elif answer.status >= 400 and path != "/readyz":
                    msgspec.json.decode(body, type=Problem)
                elif "application/json" in content:
                    check(described, content["application/json"]["schema"], msgspec.json.decode(body))
                seen.add((method.upper(), path))
    assert seen == {(route.method, route.path) for route in ROUTES}


def check(document: dict[str, object], schema: dict[str, object], value: object) -> None:
    """A small JSON Schema check: references, types, required, anyOf, items."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        check(document, document["components"]["schemas"][name], value)  # type: ignore[index]
        return
    if "anyOf" in schema:
        errors = []
        for option in schema["anyOf"]:  # type: ignore[attr-defined]
            try:
                check(document, option, value)
            except AssertionError as error:
                errors.append(error)
            else:
                return
        raise AssertionError(errors)
    kinds: dict[str, type | tuple[type, ...]] = {"object": dict, "array": list, "string": str, "integer": int}
    kinds |= {"boolean": bool, "null": type(None), "number": (int, float)}
    wanted = schema.get("type")
    if wanted is not None:
        assert isinstance(value, kinds[str(wanted)]), (schema, value)
    if isinstance(value, dict):
        assert set(schema.get("required", [])) <= set(value), (schema, value)  # type: ignore[arg-type]
        for name, inner in schema.get("properties", {}).items():  # type: ignore[attr-defined]
            if name in value:
                check(document, inner, value[name])
    if isinstance(value, list) and isinstance(schema.get("items"), dict):
        for item in value:
            check(document, schema["items"], item)  # type: ignore[arg-type]


def test_references_resolve_and_ids_are_unique() -> None:
    text = document().decode()
    described = msgspec.json.decode(text)
    for name in re.findall(r'"\$ref":"#/components/schemas/(\w+)"', text):
        assert name in described["components"]["schemas"]
    ids = [operation["operationId"] for methods in described["paths"].values() for operation in methods.values()]
    assert len(ids) == len(set(ids))
    writing = [
        (method, path)
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
        if "security" in operation
    ]
    assert writing == [(route.method.lower(), route.path) for route in ROUTES if route.writes]
