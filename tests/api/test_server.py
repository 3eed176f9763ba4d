"""Every route answers what its type says; errors are problem details; the server stops in time."""

from __future__ import annotations

import asyncio
import io
import tarfile
import threading
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from mpisa.api.blob_routes import MAX_UPLOADS
from mpisa.api.routes import ROUTES
from mpisa.api.server import ApiServer
from mpisa.config import Limits
from mpisa.node.views import RecordView
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import InvalidConfig
from mpisa.primitives.identifiers import ArtefactName
from mpisa.primitives.operations import Publish, SetName
from mpisa.primitives.record import ArtefactKind, ExternalReference, Input, ProvenanceRecord
from mpisa.primitives.state_keys import account_key
from mpisa.primitives.transaction import Transaction, sign_transaction
from mpisa.sdk.models import Problem
from tests.api.conftest import TOKEN
from tests.api.fake_node import FakeChain, FakeLedger, FakeNode, key_of


def tar_of(files: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(mode="w", fileobj=body) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return body.getvalue()


async def upload(
    http: aiohttp.ClientSession, data: object, kind: str = "application/octet-stream"
) -> dict[str, object]:
    async with http.post("/v1/blobs", data=data, headers={"Content-Type": kind}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()  # type: ignore[no-any-return]


def publish_transaction(ledger: FakeLedger, cid: Cid, nonce: int = 0, inputs: tuple[Input, ...] = ()) -> bytes:
    alice = key_of("alice")
    record = ProvenanceRecord(ArtefactKind.MODEL, cid, 5, inputs=inputs, license="Apache-2.0")
    name = SetName(ArtefactName.parse(f"alice/demo@v{nonce}"), cid)
    transaction = Transaction(
        ledger.genesis.chain_hash, alice.address, nonce, ledger.context().time_ms + 60_000, (Publish(record), name)
    )
    return sign_transaction(transaction, alice).raw


async def problem(answer: aiohttp.ClientResponse) -> Problem:
    assert answer.content_type == "application/problem+json"
    body = msgspec.json.decode(await answer.read(), type=Problem)
    assert body.status == answer.status
    return body


async def test_health_readiness_and_metrics(node: FakeNode, http: aiohttp.ClientSession) -> None:
    async with http.get("/healthz") as answer:
        assert (answer.status, await answer.json()) == (200, {"status": "ok"})
        assert answer.headers["X-Request-Id"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
    async with http.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (200, {"ready": True, "reasons": []})
    node.reasons = ["catching up: 3 of 9 chain blocks"]
    async with http.get("/readyz") as answer:
        assert (answer.status, await answer.json()) == (
            503,
            {"ready": False, "reasons": ["catching up: 3 of 9 chain blocks"]},
        )
    async with http.get("/metrics") as answer:
        text = await answer.text()
    assert "mpisa_ready 0.0" in text
    assert "mpisa_uploads_total 3.0" in text
    assert 'mpisa_http_requests_total{method="GET",route="/readyz",status="503"} 1.0' in text


async def test_chain_routes_agree_with_each_other(
    node: FakeNode, ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    raw = publish_transaction(ledger, Cid.of(b"model"))
    async with http.post("/v1/transactions?wait=certified&timeout=5", json={"transaction": raw.hex()}) as answer:
        sent = await answer.json()
    assert (answer.status, sent["status"], sent["height"], sent["receipt"]["status"]) == (
        200,
        "certified",
        1,
        "applied",
    )
    head = await (await http.get("/v1/chain/head")).json()
    assert (head["height"], head["certified"], head["chain_id"]) == (1, True, "test-chain")
    by_height = await (await http.get("/v1/chain/blocks/1")).json()
    by_hash = await (await http.get(f"/v1/chain/blocks/{head['hash']}")).json()
    assert by_height == by_hash
    assert by_height["transactions"] == [raw.hex()]
    page = await (await http.get("/v1/chain/headers?from=0&limit=1")).json()
    assert ([item["height"] for item in page["headers"]], page["next"]) == ([0], 1)
    page = await (await http.get("/v1/chain/headers?from=1")).json()
    assert ([item["height"] for item in page["headers"]], page["next"]) == ([1], None)
    assert page["headers"][0]["header"] == by_height["header"]
    past = await (await http.get("/v1/chain/headers?from=9")).json()
    assert (past["headers"], past["next"]) == ([], None)
    key = account_key(key_of("alice").address).hex()
    state = await (await http.get(f"/v1/chain/state/{key}")).json()
    proof = await (await http.get(f"/v1/chain/proof/{key}?height=1")).json()
    assert state["value"] == proof["value"] == ledger.get(bytes.fromhex(key)).hex()  # type: ignore[union-attr]
    validators = await (await http.get("/v1/chain/validators")).json()
    assert [item["power"] for item in validators["validators"]] == [1, 1, 1, 1]
    assert {item["name"] for item in validators["validators"]} == {"node1", "node2", "node3", "node4"}
    found = await (await http.get(f"/v1/transactions/{sent['hash']}")).json()
    assert found == sent
    account = await (await http.get(f"/v1/accounts/0x{key_of('alice').address.hex()}")).json()
    assert (account["nonce"], account["pending_nonce"], account["exists"]) == (1, 1, True)
    genesis = await (await http.get("/v1/chain/genesis")).json()
    assert genesis["document"] == ledger.genesis.to_json()


async def test_artefacts_names_and_lineage(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    base, derived = Cid.of(b"base"), Cid.of(b"derived")
    ledger.append([publish_transaction(ledger, base)])
    ledger.append([publish_transaction(ledger, derived, 1, (Input("base-model", "finetune", base),))])
    first = await (await http.get("/v1/artefacts?limit=1")).json()
    second = await (await http.get(f"/v1/artefacts?limit=1&cursor={first['next']}")).json()
    assert {first["artefacts"][0]["cid"], second["artefacts"][0]["cid"]} == {str(base), str(derived)}
    assert second["next"] is None
    records = await (await http.get(f"/v1/artefacts/{derived}")).json()
    assert records["records"][0]["inputs"] == [
        {"role": "base-model", "relation": "finetune", "cid": str(base), "external": None, "resolved": True}
    ]
    edge = {
        "source": str(base),
        "target": str(derived),
        "role": "base-model",
        "relation": "finetune",
        "resolved": True,
    }
    for cid in (base, derived):
        lineage = await (await http.get(f"/v1/artefacts/{cid}/lineage")).json()
        assert lineage["edges"] == [edge]
        assert {item["cid"] for item in lineage["artefacts"]} == {str(base), str(derived)}
        assert lineage["truncated"] is False
    name = await (await http.get("/v1/names/alice/demo?tag=v1")).json()
    assert (name["cid"], name["name"]) == (str(derived), "alice/demo@v1")
    async with http.get("/v1/names/alice/nothing") as answer:
        assert (await problem(answer)).code == "not-found"


def publish(ledger: FakeLedger, name: str, nonce: int, **fields: Any) -> Cid:
    alice, cid = key_of("alice"), Cid.of(name.encode())
    operation = Publish(ProvenanceRecord(ArtefactKind.MODEL, cid, 5, **fields))
    expires = ledger.context().time_ms + 60_000
    transaction = Transaction(ledger.genesis.chain_hash, alice.address, nonce, expires, (operation,))
    ledger.append([sign_transaction(transaction, alice).raw])
    return cid


async def test_lineage_knows_earlier_versions_external_inputs_and_what_came_after(
    ledger: FakeLedger, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = ExternalReference("huggingface", "google/bert", "main")
    first = publish(ledger, "first", 0, inputs=(Input("base-model", "finetune", external=reference),))
    second = publish(ledger, "second", 1, supersedes=first)
    made = [publish(ledger, f"made {n}", 2 + n, inputs=(Input("base-model", "quantize", second),)) for n in range(2)]
    lineage = await (await http.get(f"/v1/artefacts/{second}/lineage")).json()
    assert [(e["source"], e["target"], e["relation"], e["resolved"]) for e in lineage["edges"][:2]] == [
        (str(first), str(second), "supersedes", True),
        ("huggingface:google/bert@main", str(first), "finetune", False),
    ]
    assert {(e["source"], e["target"]) for e in lineage["edges"][2:]} == {(str(second), str(cid)) for cid in made}
    assert {item["cid"] for item in lineage["artefacts"]} == {str(cid) for cid in (first, second, *made)}
    assert lineage["truncated"] is False
    monkeypatch.setattr("mpisa.api.artefact_routes.MAX_DERIVED", 1)
    cut = await (await http.get(f"/v1/artefacts/{second}/lineage")).json()
    assert (len(cut["edges"]), cut["truncated"]) == (3, True)
    async with http.get(f"/v1/artefacts/{Cid.of(b'never')}/lineage") as answer:
        assert (await problem(answer)).code == "not-found"


async def test_records_are_decoded_beside_the_loop(
    node: FakeNode, ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    cid = publish(ledger, "model", 0)
    threads: set[int] = set()

    class Watched(FakeChain):
        def _records(self) -> list[RecordView]:
            threads.add(threading.get_ident())
            return super()._records()

    node.chain = Watched(node)
    for path in ("/v1/artefacts", f"/v1/artefacts/{cid}", f"/v1/artefacts/{cid}/lineage"):
        async with http.get(path) as answer:
            assert answer.status == 200
    assert threads
    assert threading.get_ident() not in threads


async def test_upload_download_pins(http: aiohttp.ClientSession) -> None:
    stored = await upload(http, tar_of({"a.txt": b"alpha", "d/b.txt": b"beta"}), "application/x-tar")
    assert (stored["size"], isinstance(stored["blocks"], int)) == (9, True)
    listed = await (await http.get(f"/v1/blobs/{stored['cid']}/ls")).json()
    assert [(entry["name"], entry["kind"]) for entry in listed["entries"]] == [("a.txt", "file"), ("d", "directory")]
    stat = await (await http.get(f"/v1/blobs/{stored['cid']}/stat")).json()
    assert (stat["kind"], stat["local"]) == ("directory", True)
    one = await upload(http, b"just one block")
    async with http.get(f"/ipfs/{one['cid']}?format=raw") as answer:
        assert await answer.read() == b"just one block"
        assert answer.content_type == "application/vnd.ipld.raw"
    async with http.get(f"/ipfs/{one['cid']}", headers={"Accept": "application/vnd.ipld.car"}) as answer:
        assert answer.headers["Content-Type"] == "application/vnd.ipld.car; version=1; order=dfs; dups=y"
        assert b"just one block" in await answer.read()
    async with http.get(f"/ipfs/{one['cid']}") as answer:
        assert (await answer.text(), answer.content_type) == ("just one block", "text/plain")
    page = await (await http.get("/v1/pins?limit=1")).json()
    rest = await (await http.get(f"/v1/pins?cursor={page['next']}")).json()
    assert {pin["cid"] for pin in page["pins"] + rest["pins"]} == {one["cid"], stored["cid"]}
    async with http.delete(f"/v1/pins/{one['cid']}") as answer:
        assert answer.status == 204
    async with http.delete(f"/v1/pins/{one['cid']}") as answer:
        assert answer.status == 404
    async with http.put(f"/v1/pins/{one['cid']}", json={"recursive": False, "name": "kept"}) as answer:
        assert await answer.json() == {
            "cid": one["cid"],
            "kind": "direct",
            "name": "kept",
            "reason": "user",
        }


async def test_submitting_again_answers_what_became_of_it(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    body = {"transaction": publish_transaction(ledger, Cid.of(b"x")).hex()}
    answers = []
    for _ in range(2):
        async with http.post("/v1/transactions?wait=certified", json=body) as answer:
            answers.append(await answer.json())
    assert answers[0] == answers[1]
    assert len(ledger.blocks) == 2


async def test_a_refused_transaction_is_a_problem_with_its_reason(
    ledger: FakeLedger, http: aiohttp.ClientSession
) -> None:
    ledger.append([publish_transaction(ledger, Cid.of(b"x"))])
    other = publish_transaction(ledger, Cid.of(b"y"))
    async with http.post("/v1/transactions", json={"transaction": other.hex()}) as answer:
        found = await problem(answer)
    assert (found.status, found.code, found.reason) == (409, "rejected", "replayed")
    assert found.detail == "replayed: nonce 0 is taken, the next free one is 1"
    assert found.type == "urn:mpisa:problem:rejected"


async def test_a_fault_shows_no_trace(node: FakeNode, http: aiohttp.ClientSession) -> None:
    node.fault = RuntimeError("secret detail in /home/someone")
    async with http.get("/v1/node") as answer:
        text = await answer.text()
        found = await problem(answer)
    assert found.status == 500
    assert "secret" not in text
    assert "Traceback" not in text
    assert found.request_id == answer.headers["X-Request-Id"]


async def test_a_download_that_fails_on_the_way_is_cut_off(node: FakeNode, http: aiohttp.ClientSession) -> None:
    stored = await upload(http, io.BytesIO(b"x" * 3_000_000))

    async def cut(parts):  # type: ignore[no-untyped-def]
        yield await anext(parts)
        yield await anext(parts)
        from mpisa.primitives.errors import Unreachable

        raise Unreachable("the last provider went away")

    node.blobs.tamper = cut
    async with http.get(f"/ipfs/{stored['cid']}?format=car") as answer:
        assert answer.status == 200
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await answer.read()


async def test_a_download_that_fails_at_once_is_a_problem(http: aiohttp.ClientSession) -> None:
    async with http.get(f"/ipfs/{Cid.of(b'nowhere')}?format=car") as answer:
        found = await problem(answer)
    assert (found.status, found.code) == (404, "not-found")


async def test_an_upload_cut_off_stores_nothing(node: FakeNode, server: ApiServer) -> None:
    host, _, port = server.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = (
        f"POST /v1/blobs HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
    )
    writer.write(head.encode())
    await writer.drain()
    async with asyncio.timeout(5):
        await node.blobs.entered.wait()
        writer.transport.abort()
        await node.blobs.upload_ended.wait()
    assert node.blobs.uploads_broken == 1
    assert node.blobs.pinned == {}


async def test_a_port_that_is_taken_says_so(node: FakeNode, server: ApiServer, tmp_path: Path) -> None:
    other = FakeNode(tmp_path / "other", node.ledger)
    port = int(server.url.rpartition(":")[2])
    object.__setattr__(other.config.api, "port", port)
    with pytest.raises(InvalidConfig, match=f"api: can't listen on 127.0.0.1:{port}"):
        await ApiServer(other, token=TOKEN).start()


async def test_it_stops_with_streams_open(node: FakeNode) -> None:
    server = ApiServer(node, token=TOKEN)
    await server.start()
    async with aiohttp.ClientSession(server.url) as session:
        streams = [await session.get("/v1/events") for _ in range(5)]
        async with asyncio.timeout(2):
            await server.stop()
        for stream in streams:
            assert (await stream.content.read()).startswith(b"retry: 1000")
    await server.stop()


async def test_uploads_at_once_are_bounded(node: FakeNode, server: ApiServer) -> None:
    node.blobs.gate = asyncio.Event()
    node.blobs.full_at = MAX_UPLOADS
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.url, headers=headers, connector=connector) as http, asyncio.timeout(20):
        first = [asyncio.create_task(upload(http, b"%d" % number)) for number in range(MAX_UPLOADS)]
        await node.blobs.full.wait()
        async with http.post("/v1/blobs", data=b"1", headers={"Content-Type": "application/octet-stream"}) as answer:
            found = await problem(answer)
        assert (found.status, found.code, answer.headers["Retry-After"]) == (503, "not-ready", "1")
        node.blobs.gate.set()
        assert len(await asyncio.gather(*first)) == MAX_UPLOADS


async def test_uploads_are_bounded_in_size(tmp_path: Path, ledger: FakeLedger) -> None:
    node = FakeNode(tmp_path / "small", ledger, limits=Limits(upload_bytes=1_000))
    server = ApiServer(node, token=TOKEN)
    await server.start()
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/octet-stream"}

    async def chunks():  # type: ignore[no-untyped-def]
        for _ in range(11):
            yield b"x" * 100

    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        for body in (b"x" * 1_001, chunks()):
            async with session.post("/v1/blobs", data=body) as answer:
                found = await problem(answer)
            assert (found.status, found.reason) == (413, "too-large")
        assert (await upload(session, b"x" * 1_000))["size"] == 1_000
    await server.stop()


def test_routes_are_unique() -> None:
    keys = [(route.method, route.path) for route in ROUTES]
    assert len(keys) == len(set(keys))


async def test_it_stops_with_an_upload_and_a_wait_open(node: FakeNode, ledger: FakeLedger) -> None:
    server = ApiServer(node, token=TOKEN)
    await server.start()
    node.blobs.gate = asyncio.Event()
    ledger.scheduled = True  # nothing will be sealed, so the transaction waits
    raw = publish_transaction(ledger, Cid.of(b"model"))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(server.url, headers=headers) as session:
        waiting = [
            asyncio.create_task(upload(session, b"x")),
            asyncio.create_task(session.post("/v1/transactions?wait=certified", json={"transaction": raw.hex()})),
        ]
        async with asyncio.timeout(5):
            await node.blobs.entered.wait()
        async with asyncio.timeout(2.5):
            await server.stop()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, aiohttp.ClientError) for outcome in outcomes)
    assert node.blobs.pinned == {}
