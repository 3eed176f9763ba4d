"""Following a chain whose validators change: what leads on, what doesn't, what two nodes may not both show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mpisa.api.server import ApiServer
from mpisa.node.epoch_proof import Entry
from mpisa.node.views import HeaderBundle
from mpisa.primitives import merkle
from mpisa.primitives.cosignature import Cosignature, cosign
from mpisa.primitives.errors import IntegrityError, UsageError
from mpisa.primitives.keys import KeyKind, PrivateKey
from mpisa.primitives.state_keys import validator_key
from mpisa.primitives.validator_record import ValidatorRecord
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
    "not closing": (show_no_closing_header, "header 3: check 'epoch' failed: it doesn't close epoch 0"),
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


def cosign_epochs(ledger: FakeLedger, epochs: int) -> None:
    """So many epochs whose next validators have records in the state, half of them with an ML-DSA-65 key."""
    for epoch in range(epochs):
        keys = sorted(validators(f"set {epoch + 1}"), key=lambda key: key.address)
        for number, key in enumerate(keys):
            public = post_quantum(key).public_key.data if number % 2 else b""
            record = ValidatorRecord(f"v{number}", key.address, 1, bytes(32), "peer", post_quantum_key=public)
            ledger.entries[validator_key(key.address)] = record.encode()
        ledger.append([])
        held = ledger.validators.validators
        closing = ledger.close_epoch(keys)
        signers = [item.address for item in held if epoch > 0][1::2]
        items = tuple(cosign(post_quantum(ledger.keys[bytes(one)]), one, closing.header) for one in signers)
        ledger.cosigned[epoch] = items, ledger.proven if epoch > 0 else ()
        tree = merkle.build(ledger.entries)
        ledger.proven = tuple(
            Entry(name, ledger.entries[name], merkle.prove(tree, name).encode())
            for name in (validator_key(key.address) for key in keys)
        )


def post_quantum(key: PrivateKey) -> PrivateKey:
    return key_of(f"post-quantum {key.address.hex()}", KeyKind.ML_DSA_65)


async def test_co_signed_power(client: AsyncClient, ledger: FakeLedger) -> None:
    cosign_epochs(ledger, 3)
    found = (await client.verify_chain(skipping=True, cosigned=True)).cosigned
    assert found is not None
    assert [(item.epoch, item.power, item.total_power) for item in found] == [(0, 0, 4), (1, 2, 4), (2, 2, 4)]
    assert (await client.verify_chain()).cosigned is None
    closing = next(block for block in ledger.blocks if block.header.closes_epoch)
    trusted = f"{closing.header.height}:{closing.hash.hex()}"
    later = (await client.verify_chain(trusted=trusted, cosigned=True)).cosigned
    assert later is not None
    assert [(item.epoch, item.power) for item in later] == [(1, 2), (2, 2)]
    midway = ledger.blocks[closing.header.height + 1]
    trusted = f"{midway.header.height}:{midway.hash.hex()}"
    assert [item.epoch for item in (await client.verify_chain(trusted=trusted, cosigned=True)).cosigned or ()] == [2]


def drop_one(items: tuple[Cosignature, ...], records: tuple[Entry, ...]) -> tuple[object, object]:
    return items[:1], records


def swap(items: tuple[Cosignature, ...], records: tuple[Entry, ...]) -> tuple[object, object]:
    return (replace(items[0], signature=items[1].signature),), records


def own_keys(items: tuple[Cosignature, ...], records: tuple[Entry, ...]) -> tuple[object, object]:
    return items, tuple(replace(item, value=item.value[:-1] + b"!") for item in records)


def no_records(items: tuple[Cosignature, ...], records: tuple[Entry, ...]) -> tuple[object, object]:
    return items, ()


FALSE_COSIGNATURES = {
    "swapped": (swap, "didn't sign header 4"),
    "keys of the node's own": (own_keys, "bad-proof: "),
    "records left out": (no_records, "has no ML-DSA-65 key in its record"),
}


@pytest.mark.parametrize("what", sorted(FALSE_COSIGNATURES))
async def test_false_co_signatures_are_named(client: AsyncClient, ledger: FakeLedger, what: str) -> None:
    cosign_epochs(ledger, 2)
    change, message = FALSE_COSIGNATURES[what]
    ledger.cosigned[1] = change(*ledger.cosigned[1])  # type: ignore[assignment]
    with pytest.raises(IntegrityError) as caught:
        await client.verify_chain(cosigned=True)
    assert str(caught.value).startswith("header 4: check 'co-signatures' failed: ")
    assert message in str(caught.value)


async def test_what_is_left_out_only_counts_less(client: AsyncClient, ledger: FakeLedger) -> None:
    cosign_epochs(ledger, 2)
    ledger.cosigned[1] = drop_one(*ledger.cosigned[1])  # type: ignore[assignment]
    found = (await client.verify_chain(cosigned=True)).cosigned
    assert found is not None
    assert [item.power for item in found] == [0, 1]
