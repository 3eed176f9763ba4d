"""Requests from where they must not come: other hosts, other pages, forms, strangers, and hostile paths."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from mpisa.api.routes import ROUTES
from mpisa.api.server import ApiServer
from mpisa.sdk.models import Problem
from tests.api.conftest import TOKEN
from tests.api.fake_node import FakeLedger, FakeNode


async def raw_request(server: ApiServer, text: str) -> tuple[int, bytes]:
    """Send bytes as they are, for what no client library would send."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(text.encode("latin-1"))
    await writer.drain()
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1]), answer.partition(b"\r\n\r\n")[2]


async def get(server: ApiServer, path: str, headers: dict[str, str] | None = None) -> tuple[int, Problem | None]:
    async with aiohttp.ClientSession() as session, session.get(server.url + path, headers=headers) as answer:
        body = await answer.read()
        problem = msgspec.json.decode(body, type=Problem) if answer.status >= 400 else None
        return answer.status, problem


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil",
        "",
        "[::2]",
        "127.0.0.1:80:80",
        "0",
    ],
)
async def test_foreign_hosts_are_refused(server: ApiServer, host: str) -> None:
    status, body = await raw_request(server, f"GET /v1/node HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert status == 403
    assert msgspec.json.decode(body, type=Problem).code == "denied"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:9", "[::1]:80", "LOCALHOST"])
async def test_loopback_names_are_taken(server: ApiServer, host: str) -> None:
    status, _ = await raw_request(server, f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")
    assert status == 200


async def test_no_host_at_all_is_refused(server: ApiServer) -> None:
    status, _ = await raw_request(server, "GET /v1/node HTTP/1.0\r\n\r\n")
    assert status in (400, 403)


async def test_configured_hosts_are_taken(tmp_path: Path, ledger: FakeLedger) -> None:
    node = FakeNode(tmp_path / "named", ledger, hosts=("node.example", "other.example:8080"))
    server = ApiServer(node, token=TOKEN)
    await server.start()
    for host, expected in (
        ("node.example", 200),
        ("node.example:1234", 200),
        ("other.example:8080", 200),
        ("other.example:81", 403),
        ("third.example", 403),
    ):
        request = f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert (await raw_request(server, request))[0] == expected, host
    await server.stop()


async def test_pages_from_elsewhere_are_refused(server: ApiServer) -> None:
    own = server.url
    cases = {
        "https://evil.example": 403,
        "null": 403,
        own.replace("127.0.0.1", "localhost"): 403,
        "http://127.0.0.1:1": 403,
        "file://" + own.removeprefix("http://"): 403,
        own: 200,
    }
    for origin, expected in cases.items():
        status, _ = await get(server, "/healthz", {"Origin": origin})
        assert status == expected, origin
    assert (await get(server, "/healthz", {"Sec-Fetch-Site": "cross-site"}))[0] == 403
    assert (await get(server, "/healthz", {"Sec-Fetch-Site": "same-origin"}))[0] == 200


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", "Bearer " + "x" * 5_000],
)
async def test_whatever_writes_needs_the_token(server: ApiServer, authorization: str | None) -> None:
    headers = {"Content-Type": "application/json"} | ({"Authorization": authorization} if authorization else {})
    writing = [route for route in ROUTES if route.writes]
    assert {route.method for route in writing} == {"POST", "PUT", "DELETE"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        for route in writing:
            path = route.path.replace("{cid}", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
            path = path.replace("{name}", "12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK")
            async with session.request(route.method, path, data=b"{}") as answer:
                found = msgspec.json.decode(await answer.read(), type=Problem)
                assert (answer.status, found.code) == (401, "denied"), path
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert TOKEN not in str(found)


async def test_content_types_are_checked(http: aiohttp.ClientSession) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    async with http.post("/v1/transactions", data=b"{}", headers=form) as answer:
        assert answer.status == 415
    async with http.post("/v1/blobs", data=b"hello", headers={"Content-Type": "text/plain"}) as answer:
        found = msgspec.json.decode(await answer.read(), type=Problem)
    assert (found.status, found.detail) == (
        415,
        "expected a body of type application/x-tar or application/octet-stream, got text/plain",
    )


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
@pytest.mark.parametrize("path", ["/v1/blobs", "/v1/transactions"])
async def test_coded_bodies_are_refused_unread(http: aiohttp.ClientSession, path: str, coding: str) -> None:
    kind = "application/json" if path == "/v1/transactions" else "application/octet-stream"
    headers = {"Content-Type": kind, "Content-Encoding": coding}
    for body in (gzip.compress(bytes(1 << 20)), b"neither"):
        async with http.post(path, data=body, headers=headers) as answer:
            assert answer.status == 415
            problem = await answer.json(content_type=None)
            assert problem["detail"] == f"expected a body without content coding, got {coding!r}"


async def test_a_refusal_comes_before_the_body(server: ApiServer) -> None:
    sent: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        sent.append(b"x")
        yield b"x"

    headers = {"Content-Type": "application/octet-stream"}
    async with (
        aiohttp.ClientSession(server.url, headers=headers) as session,
        session.post("/v1/blobs", data=body(), expect100=True) as answer,
    ):
        assert answer.status == 401
    assert sent == []


@pytest.mark.parametrize(
    "path",
    [
        "/../etc/passwd",
        "/ipfs/../../etc/passwd",
        "/ipfs/..%2f..%2fetc%2fpasswd",
        "/ipfs/%2e%2e/%2e%2e/etc/passwd",
        "/ipfs/..%5c..%5cetc",
        "/ipfs/%00",
        "/ipfs//etc/passwd",
        "/v1/names/../../etc",
        "/v1/names/..%2f..%2f/passwd",
        "/v1/blobs/..%2f..%2fetc%2fpasswd/ls",
        "//etc/passwd",
        "/%2e%2e/api.token",
        "/api.token",
    ],
)
async def test_no_path_leads_to_a_file(server: ApiServer, node: FakeNode, path: str) -> None:
    (node.home / "api.token").write_text("a secret of the home")
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    status, body = await raw_request(server, request)
    assert status in (400, 404)
    assert b"root:" not in body
    assert b"secret" not in body


BAD_VALUES = [
    ("/v1/chain/blocks/-1", 400, "block (a height or a hash): expected 64 lower-case hex digits, got '-1'"),
    ("/v1/chain/blocks/" + "AB" * 32, 400, None),
    ("/v1/chain/blocks/99999999999999999999999", 400, None),
    ("/v1/chain/blocks/7", 404, "no chain block at height 7"),
    ("/v1/chain/headers?from=x", 400, f"from: expected an integer from 0 to {2**63 - 1}, got 'x'"),
    ("/v1/chain/headers?limit=0", 400, "limit: expected an integer from 1 to 1000, got '0'"),
    ("/v1/chain/headers?limit=1001", 400, "limit: expected an integer from 1 to 1000, got '1001'"),
    ("/v1/chain/headers?limit=%D9%A3", 400, None),
    ("/v1/chain/state/zz", 400, "key: expected 1 to 512 bytes in lower-case hex, got 'zz'"),
    ("/v1/chain/state/abc", 400, None),
    ("/v1/chain/state/" + "ab" * 513, 400, None),
    ("/v1/chain/proof/ab?height=1e3", 400, None),
    ("/v1/transactions/beef", 400, "hash: expected 64 lower-case hex digits, got 'beef'"),
    ("/v1/accounts/0x12", 400, None),
    ("/v1/accounts/0xAbcdefabcdefabcdefabcdefabcdefabcdefabcd", 400, None),
    ("/v1/artefacts?cursor=nonsense", 400, "cursor: expected 1 to 512 bytes in lower-case hex, got 'nonsense'"),
    ("/v1/artefacts/notacid", 400, None),
    ("/v1/pins?cursor=notacid", 400, None),
    ("/v1/names/UPPER/model", 400, None),
    ("/v1/names/a/b?tag=" + "t" * 65, 400, None),
    ("/ipfs/bafy?format=car", 400, None),
    ("/ipfs/bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy?format=zip", 400, None),
    ("/nothing/here", 404, "no such path: /nothing/here"),
]


@pytest.mark.parametrize(("path", "expected", "detail"), BAD_VALUES)
async def test_bad_values_say_what_was_expected(
    server: ApiServer, path: str, expected: int, detail: str | None
) -> None:
    status, problem = await get(server, path)
    assert problem is not None
    assert (status, problem.status) == (expected, expected)
    assert detail is None or problem.detail == detail


async def test_wrong_methods_say_which_are_right(http: aiohttp.ClientSession) -> None:
    async with http.delete("/v1/chain/head") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
    async with http.head("/healthz") as answer:
        assert answer.status == 405


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"transaction": 5}',
        b'{"transaction": "zz"}',
        b'{"transaction": ""}',
        b'{"transaction": "ab", "more": 1}',
        b"[" * 100_000,
        b"\xff\xfe",
    ],
)
async def test_bad_submissions_are_refused(http: aiohttp.ClientSession, body: bytes) -> None:
    async with http.post("/v1/transactions", data=body, headers={"Content-Type": "application/json"}) as answer:
        found = msgspec.json.decode(await answer.read(), type=Problem)
    assert (found.status, found.code) == (400, "usage")


@pytest.mark.parametrize(
    "query", ["wait=forever", "timeout=0", "timeout=-1", "timeout=nan", "timeout=inf", "timeout=301"]
)
async def test_bad_waits_are_refused(http: aiohttp.ClientSession, query: str) -> None:
    async with http.post(f"/v1/transactions?{query}", json={"transaction": "ab"}) as answer:
        assert answer.status == 400


async def test_json_bodies_are_bounded(http: aiohttp.ClientSession) -> None:
    from mpisa.api.routing import MAX_JSON_BODY_BYTES

    for size, expected in ((MAX_JSON_BODY_BYTES, 400), (MAX_JSON_BODY_BYTES + 1, 413)):
        body = b'{"transaction": "' + b"g" * (size - 19) + b'"}'
        assert len(body) == size
        async with http.post("/v1/transactions", data=body, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == expected


async def test_long_headers_are_refused(server: ApiServer) -> None:
    request = f"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: {'x' * 40_000}\r\nConnection: close\r\n\r\n"
    assert (await raw_request(server, request))[0] == 400
