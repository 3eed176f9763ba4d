"""Rows of the path gateway for documents: JSON and CBOR, plain and with links."""

from __future__ import annotations

import json
from collections.abc import Iterator

from mpisa.primitives.cid import Cid
from tests.api.gateway.table import GENERATED, Case, Check, at, block, holds, url

UNIXFS = "path_gateway_dag/gateway-json-cbor.car"
FOLDER = "path_gateway_dag"
ABSENT = str(Cid.of(b"nobody has this", codec=0x71))
HELLO = {"hello": "this is not a link"}


def is_json(value: object) -> Check:
    return lambda body: json.loads(body) == value


def unixfs() -> Iterator[Case]:
    path, data = url(at(UNIXFS, "ą/ę/t.json")), block(UNIXFS, "ą/ę/t.json")
    plain = {"Content-Type": "application/json"}
    yield Case("a JSON file", path, headers=plain, body=data)
    yield Case("a JSON file asked for as JSON", path, ask={"Accept": "application/json"}, headers=plain, body=data)
    yield Case(
        "?format=json wins over Accept", path, "format=json", {"Accept": "application/vnd.ipld.raw"}, headers=plain
    )


def mismatches() -> Iterator[Case]:
    file = url(at(UNIXFS, "ą/ę/file-źł.txt"))
    as_json, as_cbor = url(at(f"{FOLDER}/dag-json-traversal.car")), url(at(f"{FOLDER}/dag-cbor-traversal.car"))
    yield Case("a file as DAG-JSON", file, "format=dag-json", status=406)
    yield Case("a file as DAG-CBOR", file, "format=dag-cbor", status=406)
    yield Case("a file as DAG-JSON (Accept)", file, ask={"Accept": "application/vnd.ipld.dag-json"}, status=406)
    yield Case("DAG-JSON as DAG-CBOR", as_json, "format=dag-cbor", status=406)
    yield Case("DAG-CBOR as DAG-JSON", as_cbor, "format=dag-json", status=406)
    yield Case("DAG-CBOR as DAG-JSON (Accept)", as_cbor, ask={"Accept": "application/vnd.ipld.dag-json"}, status=406)


def ranges(name: str, path: str, query: str, accept: dict[str, str], kind: str, body: bytes) -> Iterator[Case]:
    """One range, and of several the first."""
    for asked in ("bytes=2-8", "bytes=2-8,10-12"):
        yield Case(
            f"{name}: {asked}",
            path,
            query,
            accept | {"Range": asked},
            status=206,
            headers={"Content-Range": f"bytes 2-8/{len(body)}", "Content-Type": kind},
            body=body[2:9],
        )


def plain(name: str, inline: str) -> Iterator[Case]:
    fixture = f"{FOLDER}/plain-{name}.car"
    path, body, kind = url(at(fixture)), block(fixture), f"application/{name}"
    headers = {"Content-Type": kind, "Content-Disposition": f'{inline}; filename="{at(fixture)}.{name}"'}
    asked: tuple[tuple[str, str, dict[str, str]], ...] = (
        (f"plain {name}", "", {}),
        (f"plain {name} by ?format", f"format={name}", {}),
        (f"plain {name} by Accept", "", {"Accept": kind}),
    )
    for title, query, accept in asked:
        yield Case(title, path, query, accept, headers=headers, body=body)
        yield from ranges(title, path, query, accept, kind, body)


def traversal(name: str, check: Check) -> Iterator[Case]:
    path = url(at(f"{FOLDER}/dag-{name}-traversal.car"))
    yield Case(f"a value within dag-{name}", f"{path}/foo", f"format=dag-{name}", status=501)
    yield Case(f"links of dag-{name}", f"{path}/foo/link/bar", f"format=dag-{name}", check=check)
    yield Case(f"no such name in dag-{name}", f"{path}/foo/i-do-not-exist", status=404)


def native(name: str, inline: str) -> Iterator[Case]:
    fixture = f"{FOLDER}/dag-{name}-traversal.car"
    cid, body = at(fixture), block(fixture)
    path, kind, simple = url(cid), f"application/vnd.ipld.dag-{name}", f"application/{name}"
    accept = {"Accept": kind}
    saved = {"Content-Disposition": f'{inline}; filename="{cid}.{name}"'}
    yield Case(f"dag-{name}", path, body=body)
    yield Case(f"dag-{name} by ?format", path, f"format=dag-{name}", body=body)
    yield Case(f"dag-{name} by Accept", path, ask=accept, body=body)
    yield Case(f"dag-{name} as {name}", path, f"format={name}", headers={"Content-Type": simple}, body=body)
    yield Case(
        f"dag-{name} as {name} by Accept", path, ask={"Accept": simple}, headers={"Content-Type": simple}, body=body
    )
    yield Case(
        f"headers of dag-{name}",
        path,
        ask=accept,
        headers={"Content-Type": kind, "Content-Length": str(len(body)), **saved},
    )
    yield Case(
        f"dag-{name} under the client's file name",
        path,
        f"filename=foobar.{name}",
        accept,
        headers={"Content-Disposition": f'{inline}; filename="foobar.{name}"'},
    )
    yield Case(
        f"dag-{name} to be saved",
        path,
        f"filename=foobar.{name}&download=true",
        accept,
        headers={"Content-Disposition": f'attachment; filename="foobar.{name}"'},
    )
    yield Case(
        f"dag-{name} in caches",
        path,
        ask=accept,
        headers={
            "Etag": f'"{cid}.dag-{name}"',
            "X-Ipfs-Path": path,
            "X-Ipfs-Roots": str(cid),
            "Cache-Control": "public, max-age=29030400, immutable",
        },
    )
    yield Case(
        f"HEAD of dag-{name}", path, method="HEAD", headers={"Content-Type": kind, "Content-Length": str(len(body))}
    )
    yield Case(
        f"HEAD of dag-{name} by ?format",
        path,
        f"format=dag-{name}",
        method="HEAD",
        headers={"Etag": f'"{cid}.dag-{name}"', "Content-Type": kind, "Content-Length": str(len(body))},
    )
    yield Case(
        f"HEAD of dag-{name} that isn't here",
        url(ABSENT),
        ask={"Cache-Control": "only-if-cached"},
        method="HEAD",
        status=412,
    )
    yield Case(
        f"a page about dag-{name}",
        f"{path}/",
        ask={"Accept": "text/html"},
        headers={
            "Etag": '"DagIndex-.*"',
            "Content-Type": "text/html.*",
            "Content-Disposition": "",
            "Cache-Control": GENERATED,
        },
        check=holds("</html>"),
    )
    asked: tuple[tuple[str, dict[str, str], str], ...] = (
        ("by itself", {}, kind),
        ("by Accept", accept, kind),
        (f"as {name}", {"Accept": simple}, simple),
    )
    for title, header, answered in asked:
        yield from ranges(f"dag-{name} {title}", f"{path}/", "", header, answered, body)


DAG_CASES = (
    *unixfs(),
    *mismatches(),
    *plain("json", "inline"),
    *plain("cbor", "attachment"),
    *traversal("json", is_json(HELLO)),
    *traversal("cbor", lambda body: body == b"\xa1\x65hello\x72this is not a link"),
    *native("json", "inline"),
    *native("cbor", "attachment"),
)
