"""Names: records that the node is given, and what they lead to."""

from __future__ import annotations

import time

import aiohttp
import pytest

from mpisa.node.ipns_records import IpnsRecords
from mpisa.primitives.cid import Cid
from mpisa.primitives.ipns import name_text
from tests.api.fake_node import FakeNode
from tests.api.gateway.names import RECORD, REFUSED, raw_record
from tests.api.gateway.records import name_of, record_of
from tests.api.gateway.test_gateway import Answer, ask, store_file, store_files

HOUR_MS = 3_600_000


def soon() -> int:
    return int(time.time() * 1000) + HOUR_MS


async def put(http: aiohttp.ClientSession, name: Cid | str, raw: bytes, **headers: str) -> int:
    text = name if isinstance(name, str) else name_text(name)
    named = {"Content-Type": RECORD} | headers
    async with http.put(f"/v1/ipns/{text}", data=raw, headers=named) as answer:
        return answer.status


async def show(http: aiohttp.ClientSession, name: Cid, path: str = "", **headers: str) -> Answer:
    return await ask(http, f"/ipns/{name_text(name)}{path}", **headers)


async def test_a_name_is_put_and_moved_on(node: FakeNode, http: aiohttp.ClientSession) -> None:
    name = name_of(1)
    first, second = (store_file(node.blobs.store, data) for data in (b"first", b"second"))
    assert (await show(http, name)).status == 502
    until = soon()
    old = record_of(1, f"/ipfs/{first}", until_ms=until)
    new = record_of(1, f"/ipfs/{second}", sequence=2, until_ms=until)
    assert await put(http, name, old) == 204
    assert (await show(http, name)).body == b"first"
    assert await put(http, name, new) == 204
    assert await put(http, name, new) == 204
    assert (await show(http, name)).body == b"second"
    assert await put(http, name, old) == 409
    answer = await show(http, name, "?format=ipns-record")
    assert (answer.body, answer.headers["Cache-Control"]) == (new, "public, max-age=60")
    again = await show(http, name, "?format=ipns-record", If_None_Match=answer.headers["Etag"])
    assert again.status == 304


async def test_what_is_no_record_of_the_name_is_refused(http: aiohttp.ClientSession) -> None:
    good = record_of(1, "/ipfs/bafkqaaa", until_ms=soon())
    assert await put(http, name_of(2), good) == 422
    assert await put(http, name_of(1), good[:-1]) == 422
    assert await put(http, name_of(1), bytes(10_241)) == 413
    assert await put(http, name_of(1), record_of(1, "/ipfs/bafkqaaa", until_ms=soon() - 2 * HOUR_MS)) == 422
    assert await put(http, "notaname", good) == 400
    assert await put(http, name_of(1), good, Authorization="Bearer wrong") == 401
    async with http.put(f"/v1/ipns/{name_text(name_of(1))}", json={}) as answer:
        assert answer.status == 415


@pytest.mark.parametrize("name", REFUSED.values(), ids=REFUSED)
async def test_a_bad_record_on_the_disk_counts_for_nothing(
    node: FakeNode, http: aiohttp.ClientSession, name: str
) -> None:
    directory = node.home / "ipns"
    directory.mkdir()
    (directory / f"{name}.ipns-record").write_bytes(raw_record(name))
    answer = await ask(http, f"/ipns/{name}")
    assert (answer.status, answer.problem.code) == (502, "unreachable")


async def test_a_record_that_has_run_out_since(node: FakeNode, http: aiohttp.ClientSession) -> None:
    now = int(time.time() * 1000)
    raw = record_of(1, "/ipfs/bafkqaddwgevxmmraojswg33smq", until_ms=now - 1_000)
    earlier = IpnsRecords(node.home / "ipns", lambda: now - HOUR_MS)
    await earlier.put(name_of(1), raw)
    assert (await show(http, name_of(1))).status == 502


async def test_answers_are_kept_as_long_as_the_record_says(node: FakeNode, http: aiohttp.ClientSession) -> None:
    cid = store_file(node.blobs.store, b"x")
    await put(http, name_of(1), record_of(1, f"/ipfs/{cid}", until_ms=soon(), ttl_s=1_000_000))
    kept = (await show(http, name_of(1))).headers["Cache-Control"]
    assert 3_500 <= int(kept.removeprefix("public, max-age=")) <= 3_600


async def test_names_lead_to_names(node: FakeNode, http: aiohttp.ClientSession) -> None:
    root = store_files(node.blobs.store, {"a.txt": b"deep"})
    outer = store_files(node.blobs.store, {"b.txt": b"other"})
    until = soon()
    await put(http, name_of(1), record_of(1, f"/ipns/{name_text(name_of(2))}", until_ms=until, ttl_s=90))
    await put(http, name_of(2), record_of(2, f"/ipfs/{root}", until_ms=until, ttl_s=30))
    answer = await show(http, name_of(1), "/a.txt")
    assert (answer.body, answer.headers["Cache-Control"]) == (b"deep", "public, max-age=30")
    assert answer.headers["X-Ipfs-Path"] == f"/ipns/{name_text(name_of(1))}/a.txt"
    listing = await show(http, name_of(1))
    assert (listing.status, listing.headers["Location"]) == (302, f"/ipns/{name_text(name_of(1))}/")
    await put(http, name_of(2), record_of(2, f"/ipfs/{root}", sequence=2, until_ms=until, ttl_s=900))
    assert (await show(http, name_of(1), "/a.txt")).headers["Cache-Control"] == "public, max-age=90"
    await put(http, name_of(1), record_of(1, f"/ipfs/{outer}", sequence=2, until_ms=until))
    assert (await show(http, name_of(1), "/b.txt")).body == b"other"


async def test_names_that_lead_nowhere(http: aiohttp.ClientSession) -> None:
    until = soon()
    values = {
        3: f"/ipns/{name_text(name_of(3))}",
        4: "/ipfs/",
        5: "https://example.org/",
        6: "/ipfs/bafkqaaa/../up",
        7: "/ipns/docs.example",
    }
    for seed, value in values.items():
        assert await put(http, name_of(seed), record_of(seed, value, until_ms=until)) == 204
        answer = await show(http, name_of(seed))
        assert (answer.status, answer.problem.code) == (502, "unreachable"), value
    assert (await show(http, name_of(3))).problem.detail == "more than 16 names lead to one another"


async def test_a_record_below_a_name_is_none(http: aiohttp.ClientSession) -> None:
    assert (await show(http, name_of(1), "/a?format=ipns-record")).status == 400
