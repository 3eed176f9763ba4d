"""Reports of contradicting headers over HTTP: what is taken, and what is refused at the door."""

from __future__ import annotations

import aiohttp

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import encode_header
from mpisa.primitives.identifiers import format_address
from tests.api.fake_node import FakeLedger, FakeNode


def reported(ledger: FakeLedger) -> dict[str, str]:
    header = ledger.blocks[0].header
    certificate = (0).to_bytes(31, "big") + b"\1" + bytes(64)
    return {"header": encode_header(header).hex(), "certificate": certificate.hex()}


async def test_offenders_are_named(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    async with http.post("/v1/chain/evidence", json={"headers": [reported(ledger)] * 2}) as answer:
        assert answer.status == 200
        assert await answer.json() == {
            "offences": [
                {
                    "kind": "double-header",
                    "address": format_address(ledger.genesis.validators[0].address),
                    "epoch": 0,
                    "position": 0,
                }
            ]
        }


async def test_what_proves_nothing_is_refused(node: FakeNode, ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    node.refusal = Rejection(RejectionReason.BAD_EVIDENCE, "nobody signed two of these headers")
    async with http.post("/v1/chain/evidence", json={"headers": [reported(ledger)]}) as answer:
        assert (answer.status, (await answer.json())["reason"]) == (422, "bad-evidence")


async def test_bad_reports_are_refused_at_the_door(ledger: FakeLedger, http: aiohttp.ClientSession) -> None:
    one = reported(ledger)
    for headers, status, detail in (
        ([], 400, "headers: expected 1 to 2, got 0"),
        ([one] * 3, 400, "headers: expected 1 to 2, got 3"),
        ([one | {"header": "00"}], 400, "headers[0].header: expected 680 lower-case hex digits, got '00'"),
        ([one | {"header": "00" * 340}], 422, "expected it to start with"),
        ([one | {"certificate": "00" * 33}], 422, "its bitmap names 0 signatures"),
    ):
        async with http.post("/v1/chain/evidence", json={"headers": headers}) as answer:
            problem = await answer.json()
        assert (answer.status, detail in problem["detail"]) == (status, True), problem
