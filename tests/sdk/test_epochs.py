"""Following a chain whose validators change: what leads on, what doesn't, what two nodes may not both show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mpisa.api.server import ApiServer
from mpisa.node.views import HeaderBundle
from mpisa.primitives.errors import IntegrityError, UsageError
from mpisa.primitives.keys import KeyKind, PrivateKey
from mpisa.sdk.async_client import AsyncClient
from tests.api.fake_node import FakeLedger, FakeNode, key_of, make_genesis

ALICE = key_of("alice")


def validators(name: str) -> list[PrivateKey]:
    return [key_of(f"{name} {number}", KeyKind.SECP256K1) for number in range(4)]


def grow(ledger: FakeLedger, epochs: int = 3, blocks: int = 2) -> FakeLedger:
    """So many epochs, each with a wholly different set, of so many blocks and a closing one."""
    for epoch in range(epochs):
        for _ in range(blocks):
            ledger.append([])
        ledger.close_epoch(validators(f"set {epoch + 1}"))
    for _ in range(blocks):
        ledger.append([])
    return ledger


async def test_a_record_is_verified_under_a_set_that_the_genesis_does_not_know(
    client: AsyncClient, ledger: FakeLedger, tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(b"weights")
    grow(ledger)
    cid = (await client.publish(tmp_path / "model", key=ALICE, license="MIT")).cid
    result = await client.verify(cid)
    assert result.valid
    assert result.checks[1].detail == f"4 validators, set {ledger.validators.hash.hex()}"


async def test_every_header_or_one_an_epoch(client: AsyncClient, ledger: FakeLedger) -> None:
    grow(ledger)
    whole = await client.verify_chain()
    assert (whole.height, whole.headers_checked) == (11, 12)
    skipping = await client.verify_chain(skipping=True)
    assert (skipping.height, skipping.headers_checked) == (11, 5)  # genesis, three closing headers, the head
    ledger.close_epoch(validators("set 4"))
    assert (await client.verify_chain(skipping=True)).headers_checked == 5  # the head closes an epoch itself
    assert (await client.verify_chain()).headers_checked == 13


async def test_trust_in_a_later_header(client: AsyncClient, ledger: FakeLedger) -> None:
    grow(ledger)
    closing = ledger.blocks[6]
    trusted = f"6:{closing.hash.hex()}"
    found = await client.verify_chain(trusted=trusted)
    assert (found.height, found.headers_checked, found.trust) == (11, 6, f"header {trusted}, as given")
    assert (await client.verify_chain(trusted=trusted, skipping=True)).headers_checked == 3
    head = f"11:{ledger.blocks[11].hash.hex()}"
    assert (await client.verify_chain(trusted=head)).headers_checked == 1
    with pytest.raises(IntegrityError, match=f"^header 6: check 'hash' failed: expected {'0' * 64}, the node's has "):
        await client.verify_chain(trusted=f"6:{'0' * 64}")
    with pytest.raises(UsageError, match=r"^trusted header: expected HEIGHT:HASH, got 'latest'"):
        await client.verify_chain(trusted="latest")


def hide_an_epoch(bundles: tuple[HeaderBundle, ...]) -> tuple[HeaderBundle, ...]:
    return bundles[1:]


def show_no_closing_header(bundles: tuple[HeaderBundle, ...]) -> tuple[HeaderBundle, ...]:
    return (replace(bundles[0], header=replace(bundles[0].header, next_validators_hash=bytes(32))),)


def forge_the_next_set(bundles: tuple[HeaderBundle, ...]) -> tuple[HeaderBundle, ...]:
    return (replace(bundles[0], header=replace(bundles[0].header, next_validators_hash=b"\1" * 32)),)


LIES: dict[str, tuple[Callable[[tuple[HeaderBundle, ...]], tuple[HeaderBundle, ...]], str]] = {
    "hidden": (hide_an_epoch, "epoch 0: check 'gap' failed: the node shows epoch 1"),
    "not closing": (show_no_closing_header, "header 3: check 'light client' failed: bad-certificate"),
    "forged": (forge_the_next_set, "header 3: check 'light client' failed: bad-certificate"),
}


@pytest.mark.parametrize("lie", sorted(LIES))
async def test_lies_about_epochs_are_named(client: AsyncClient, node: FakeNode, lie: str) -> None:
    grow(node.ledger)
    change, message = LIES[lie]
    true = node.chain.epochs
    node.chain.epochs = lambda first, limit: change(true(first, limit))  # type: ignore[method-assign]
    with pytest.raises(IntegrityError) as caught:
        await client.verify_chain(skipping=True)
    assert str(caught.value).startswith(message)


async def test_a_header_that_closes_nothing_does_not_lead_on(client: AsyncClient, node: FakeNode) -> None:
    ledger = grow(node.ledger)
    plain = ledger.blocks[2]
    shown = (HeaderBundle(plain.header, plain.certificate, ledger.set_at(2)),)
    node.chain.epochs = lambda first, limit: shown  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match=r"^header 2: check 'epoch' failed: it doesn't close epoch 0"):
        await client.verify_chain(skipping=True)


@asynccontextmanager
async def other_node(ledger: FakeLedger, home: Path) -> AsyncIterator[AsyncClient]:
    running = ApiServer(FakeNode(home, ledger))
    await running.start()
    try:
        async with AsyncClient(running.url, home=home) as opened:
            yield opened
    finally:
        await running.stop()


def forked(ledger: FakeLedger, height: int) -> FakeLedger:
    """The same chain with another header at a height, certified by a quorum that signed twice."""
    copy = FakeLedger(ledger.genesis, dict(ledger.keys))
    copy.sets = list(ledger.sets)
    copy.blocks = list(ledger.blocks[: height + 1])
    header = replace(copy.blocks[height].header, tx_root=b"\2" * 32)
    copy.blocks[height] = replace(
        copy.blocks[height], header=header, hash=header.hash, certificate=copy.certify(header)
    )
    return copy


@pytest.mark.parametrize("height", [2, 5, 11])
@pytest.mark.parametrize("skipping", [False, True])
async def test_two_nodes_that_contradict_each_other(
    client: AsyncClient, ledger: FakeLedger, tmp_path: Path, height: int, skipping: bool
) -> None:
    grow(ledger)
    async with other_node(forked(ledger, height), tmp_path / "other") as other:
        with pytest.raises(IntegrityError) as caught:
            await client.verify_chain(skipping=skipping, against=[other])
    assert str(caught.value) == (
        f"header {height}: check 'conflict' failed: two headers of height {height}; both are certified"
    )


async def test_nodes_of_one_chain_agree_wherever_they_stand(
    client: AsyncClient, ledger: FakeLedger, tmp_path: Path
) -> None:
    grow(ledger)
    behind = FakeLedger(ledger.genesis, dict(ledger.keys))
    behind.sets, behind.blocks = list(ledger.sets), list(ledger.blocks[:5])
    ahead = FakeLedger(*make_genesis())
    ahead.sets, ahead.blocks, ahead.keys = list(ledger.sets), list(ledger.blocks), dict(ledger.keys)
    ahead.append([])
    ahead.close_epoch(validators("ahead"))
    ahead.append([])
    async with other_node(behind, tmp_path / "behind") as low, other_node(ahead, tmp_path / "ahead") as high:
        found = await client.verify_chain(skipping=True, against=[low, high])
        assert found.compared == (low.endpoint, high.endpoint)
        assert (await client.verify_chain(against=[low, high])).valid
