"""Signing and submitting: one publish, many at once, conflicts, refusals, and what must never happen twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from mpisa.api.server import ApiServer
from mpisa.node.views import TransactionStatus, WaitFor
from mpisa.primitives.errors import (
    Denied,
    Halted,
    IntegrityError,
    NotReady,
    Rejection,
    RejectionReason,
    SafeHalt,
    TimedOut,
    UsageError,
)
from mpisa.primitives.genesis import Genesis
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.record import ExternalReference, Input
from mpisa.primitives.state_keys import parameters_key
from mpisa.primitives.transaction import decode_transaction
from mpisa.sdk import wallet
from mpisa.sdk.async_client import AsyncClient
from tests.api.fake_node import FakeChain, FakeLedger, FakeNode, key_of

ALICE, BOB = key_of("alice"), key_of("bob")


def model(tmp_path: Path, text: str = "weights") -> Path:
    path = tmp_path / f"{text}.bin"
    path.write_text(text)
    return path


async def test_publish(client: AsyncClient, ledger: FakeLedger, tmp_path: Path) -> None:
    base = await client.publish(model(tmp_path, "base"), key=ALICE, kind="dataset")
    result = await client.publish(
        model(tmp_path),
        key=ALICE,
        license="Apache-2.0",
        inputs=[
            {"role": "dataset", "relation": "train", "cid": base.cid},
            Input("base-model", "finetune", external=ExternalReference("huggingface", "google/bert", "main")),
        ],
        supersedes=base.cid,
        name="alice/demo",
        media_type="application/octet-stream",
    )
    assert (result.certified, result.height, result.name) == (True, 2, "alice/demo@latest")
    found = await client.transaction(result.tx)
    assert (found.status, found.height) == ("certified", 2)
    (record,) = (await client.artefact(result.cid)).records
    assert (record.publisher, record.size, record.license, record.supersedes) == (
        format_address(ALICE.address),
        7,
        "Apache-2.0",
        base.cid,
    )
    assert [(item.role, item.resolved) for item in record.inputs] == [("dataset", True), ("base-model", False)]
    assert (await client.resolve("alice/demo")).cid == result.cid
    lineage = await client.lineage(result.cid)
    assert {edge.source for edge in lineage.edges} == {base.cid, "huggingface:google/bert@main"}
    page = await client.artefacts(limit=1)
    rest = await client.artefacts(page.next, limit=1)
    assert {item.cid for item in page.artefacts + rest.artefacts} == {base.cid, result.cid}


async def test_publishing_again_is_harmless(client: AsyncClient, tmp_path: Path) -> None:
    first = await client.publish(model(tmp_path), key=ALICE)
    second = await client.publish(model(tmp_path), key=ALICE)
    assert first.cid == second.cid
    (record,) = (await client.artefact(first.cid)).records
    assert record.tx == second.tx


@pytest.mark.parametrize("kind", list(KeyKind))
async def test_new_accounts_of_every_kind(client: AsyncClient, tmp_path: Path, kind: KeyKind) -> None:
    key = key_of("newcomer", kind)
    drawn = await client.faucet(key)
    assert drawn.status == "certified"
    account = await client.account(format_address(key.address))
    assert (account.balance, account.key_kind, account.nonce) == (10**9, kind.value, 1)
    assert (await client.publish(model(tmp_path), key=key)).certified


async def test_send_faucet_and_names(client: AsyncClient) -> None:
    bob = format_address(BOB.address)
    before = (await client.account(bob)).balance
    assert (await client.send(bob, 5, key=ALICE)).status == "certified"
    assert (await client.faucet(ALICE, amount=7, to=bob)).status == "certified"
    assert (await client.account(bob)).balance == before + 12
    with pytest.raises(Rejection) as caught:
        await client.send(bob, 10**18, key=ALICE)
    assert caught.value.reason is RejectionReason.INSUFFICIENT_BALANCE
    with pytest.raises(Rejection) as caught:
        await client.send(format_address(ALICE.address), 1, key=ALICE)
    assert caught.value.reason is RejectionReason.SELF_TRANSFER
    cid = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
    await client.set_name("alice/demo@v1", cid, key=ALICE)
    with pytest.raises(Rejection) as caught:
        await client.set_name("alice/demo@v1", cid, key=BOB)
    assert caught.value.reason in (RejectionReason.NOT_OWNER, RejectionReason.NAME_TAKEN)
    await client.set_name("alice/demo@v1", None, key=ALICE)


async def test_rotation_keeps_the_address(client: AsyncClient) -> None:
    fresh = key_of("fresh", KeyKind.SECP256K1)
    await client.rotate_key(ALICE, fresh)
    with pytest.raises(Rejection):
        await client.send(format_address(BOB.address), 1, key=ALICE)
    sent = await client.send(format_address(BOB.address), 1, key=fresh, sender=format_address(ALICE.address))
    assert sent.status == "certified"


async def test_keys_come_from_the_wallet(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = wallet.create(node.home, "alice")
    carol = wallet.create(node.home, "carol", passphrase=b"pass")
    await client.faucet()
    await client.faucet("alice", to=carol.address)
    assert (await client.publish(model(tmp_path), key=made.key_file)).certified
    assert (await client.account(made.address)).nonce == 3
    with pytest.raises(Denied, match="no passphrase"):
        await client.send(made.address, 1, key="carol")
    monkeypatch.setenv("MPISA_PASSPHRASE", "pass")
    assert (await client.send(made.address, 1, key="carol")).status == "certified"


async def test_nothing_is_sent_for_a_bad_draft(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    path = model(tmp_path)
    with pytest.raises(UsageError, match="kind: expected one of model, dataset, code, evaluation, got 'thing'"):
        await client.publish(path, key=ALICE, kind="thing")
    with pytest.raises(Rejection):
        await client.publish(path, key=ALICE, license="not a licence!")
    with pytest.raises(Rejection):
        await client.publish(path, key=ALICE, name="NoOwner")
    with pytest.raises(UsageError, match="unknown keys"):
        await client.publish(path, key=ALICE, inputs=[{"cidd": "x"}])
    assert node.blobs.pinned == {}


@pytest.fixture
async def four(tmp_path: Path, ledger: FakeLedger) -> AsyncIterator[list[FakeNode]]:
    nodes = [FakeNode(tmp_path / f"four{number}", ledger) for number in range(4)]
    servers = [ApiServer(node) for node in nodes]
    for server in servers:
        await server.start()
    yield nodes
    for server in servers:
        await server.stop()


async def test_a_hundred_publishes_at_once_from_one_account(
    four: list[FakeNode], ledger: FakeLedger, tmp_path: Path
) -> None:
    clients = [AsyncClient(home=four[number % 4].home, timeout=60) for number in range(20)]
    paths = [model(tmp_path, f"model {number}") for number in range(100)]
    results = await asyncio.gather(
        *[clients[number % 20].publish(path, key=ALICE) for number, path in enumerate(paths)]
    )
    for client in clients:
        await client.close()
    assert all(result.certified for result in results)
    assert len({result.cid for result in results}) == len({result.tx for result in results}) == 100
    applied = [
        decode_transaction(raw).transaction.nonce
        for block in ledger.blocks
        for raw, receipt in zip(block.transactions, block.receipts, strict=True)
        if receipt.status.value == "applied"
    ]
    assert sorted(applied) == list(range(100))


async def test_transfers_at_once_each_happen_once(four: list[FakeNode], tmp_path: Path) -> None:
    clients = [AsyncClient(home=node.home, timeout=60) for node in four]
    bob = format_address(BOB.address)
    before = (await clients[0].account(bob)).balance
    await asyncio.gather(*[clients[number % 4].send(bob, 1, key=ALICE) for number in range(20)])
    assert (await clients[0].account(bob)).balance == before + 20
    for client in clients:
        await client.close()


class FlakyNode(FakeNode):
    """Takes a submission, then fails in one of the ways a network can."""

    failures: list[str]
    server: ApiServer

    async def submit(self, raw: bytes, wait: WaitFor | str = "accepted", timeout_s: float = 30.0) -> TransactionStatus:
        outcome = await super().submit(raw, wait, timeout_s)
        if self.failures:
            how = self.failures.pop(0)
            if how == "cut":
                assert self.server._runner is not None
                assert self.server._runner.server is not None
                for connection in self.server._runner.server.connections:
                    connection.transport.abort()  # type: ignore[attr-defined]
                await asyncio.Event().wait()
            if how == "busy":
                raise Rejection(RejectionReason.MEMPOOL_FULL, "the pool is full")
            raise NotReady("starting")
        return outcome


@pytest.fixture
async def flaky(tmp_path: Path, ledger: FakeLedger) -> AsyncIterator[tuple[FlakyNode, AsyncClient]]:
    node = FlakyNode(tmp_path / "flaky", ledger)
    node.failures = []
    server = node.server = ApiServer(node)
    await server.start()
    async with AsyncClient(home=node.home, timeout=20) as client:
        yield node, client
    await server.stop()


@pytest.mark.parametrize("failures", [["cut"], ["cut", "cut", "cut"], ["busy"], ["not-ready", "cut"]])
async def test_a_transfer_over_a_bad_line_happens_once(
    flaky: tuple[FlakyNode, AsyncClient], failures: list[str]
) -> None:
    node, client = flaky
    bob = format_address(BOB.address)
    before = (await client.account(bob)).balance
    node.failures = list(failures)
    sent = await client.send(bob, 3, key=ALICE)
    assert sent.status == "certified"
    assert node.failures == []
    assert (await client.account(bob)).balance == before + 3
    assert (await client.account(format_address(ALICE.address))).nonce == 1


async def test_no_certificate_in_time_says_which_transaction(
    client: AsyncClient, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "scheduled", True)
    client.timeout = 0.3
    with pytest.raises(TimedOut) as caught:
        await client.send(format_address(BOB.address), 1, key=ALICE)
    (raw,) = ledger.nodes[0].pool.values()
    assert decode_transaction(raw).hash.hex() in str(caught.value)


async def test_a_safe_halt_is_waited_for_as_long_as_the_timeout_lets(client: AsyncClient, node: FakeNode) -> None:
    node.refusal = SafeHalt("nothing was certified for 31 s", hint="send again then")
    client.timeout = 0.3
    with pytest.raises(SafeHalt, match="nothing was certified for 31 s") as caught:
        await client.send(format_address(BOB.address), 1, key=ALICE)
    assert (caught.value.hint, caught.value.exit_code) == ("send again then", 6)
    client.timeout, node.refused = 10, 0
    sending = asyncio.create_task(client.send(format_address(BOB.address), 1, key=ALICE))
    while node.refused < 3:
        await asyncio.sleep(0)
    node.refusal = None
    assert (await sending).status == "certified"


async def test_a_node_that_has_halted_is_not_asked_twice(client: AsyncClient, node: FakeNode) -> None:
    node.refusal = Halted("the node has halted: two certified vertices", hint="send to another node")
    with pytest.raises(Halted, match="the node has halted: two certified vertices"):
        await client.send(format_address(BOB.address), 1, key=ALICE)
    assert node.refused == 1


async def test_submit_takes_raw_bytes_and_hex(client: AsyncClient, ledger: FakeLedger) -> None:
    from mpisa.primitives.operations import Transfer
    from mpisa.primitives.transaction import Transaction, sign_transaction

    expires = ledger.context().time_ms + 60_000
    signed = sign_transaction(
        Transaction(ledger.genesis.chain_hash, ALICE.address, 0, expires, (Transfer(BOB.address, 1),)), ALICE
    )
    first = await client.submit(signed.raw)
    again = await client.submit(signed.raw.hex(), "accepted")
    assert (first.status, first.hash) == ("certified", signed.hash.hex())
    assert again.hash == first.hash


async def test_a_node_that_lies_about_fees_gets_nothing_signed_for_the_true_chain(
    client: AsyncClient, node: FakeNode, ledger: FakeLedger
) -> None:
    greedy = replace(ledger.genesis.parameters, minimum_fee=10**11)
    ledger.entries[parameters_key()] = greedy.encode()
    with pytest.raises(Rejection) as refused:  # signed with the fee of the genesis document
        await client.send(format_address(BOB.address), 1, key=ALICE)
    assert refused.value.reason is RejectionReason.FEE_TOO_LOW
    lie = replace(ledger.genesis, parameters=greedy)
    node.chain = LyingChain(node, lie)
    async with AsyncClient(client.endpoint, home=node.home) as fresh:
        with pytest.raises(Rejection) as foreign:
            await fresh.send(format_address(BOB.address), 1, key=ALICE)
    assert foreign.value.reason is RejectionReason.WRONG_CHAIN


async def test_a_genesis_that_is_none_is_refused_before_signing(
    client: AsyncClient, node: FakeNode, ledger: FakeLedger
) -> None:
    validator = replace(ledger.genesis.validators[0], name="\ud800")
    node.chain = LyingChain(node, replace(ledger.genesis, validators=(validator, *ledger.genesis.validators[1:])))
    with pytest.raises(IntegrityError, match=r"^the node's genesis document: bad-genesis: "):
        await client.send(format_address(BOB.address), 1, key=ALICE)


class LyingChain(FakeChain):
    """Shows another genesis document than that of its chain."""

    def __init__(self, node: FakeNode, document: Genesis) -> None:
        super().__init__(node)
        self._document = document

    @property
    def genesis(self) -> Genesis:
        return self._document
