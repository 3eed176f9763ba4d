"""Checking what a node says: what is true passes, every lie is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest

from mpisa.node.views import HeaderBundle
from mpisa.primitives import merkle
from mpisa.primitives.errors import IntegrityError, NotFound, UsageError
from mpisa.primitives.header import Header, make_certificate, sign_header
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.state_keys import account_key
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.trust import UNVOUCHED
from mpisa.sdk.verify import StateProofBundle, TrustedChain, verify_headers, verify_state_proof
from tests.api.fake_node import FakeLedger, FakeNode, key_of, make_genesis

ALICE = key_of("alice")


def grown(blocks: int = 4) -> FakeLedger:
    ledger = FakeLedger(*make_genesis())
    for _ in range(blocks):
        ledger.append([])
    return ledger


def trusted(ledger: FakeLedger) -> TrustedChain:
    return TrustedChain.from_genesis(ledger.genesis.to_json())


def follow(ledger: FakeLedger) -> int:
    pairs = [(block.header, block.certificate) for block in ledger.blocks]
    return verify_headers(trusted(ledger), pairs, ledger.validators).height


def resign(ledger: FakeLedger, height: int, signers: int = 3, **changes: object) -> None:
    """Change a header and certify it anew, as validators who break a rule would."""
    header = replace(ledger.blocks[height].header, **changes)  # type: ignore[arg-type]
    certificate = ledger.certify(header, signers)
    ledger.blocks[height] = replace(ledger.blocks[height], header=header, hash=header.hash, certificate=certificate)


def test_a_true_chain_passes() -> None:
    assert follow(grown()) == 4
    assert follow(grown(0)) == 0


def wrong_previous(ledger: FakeLedger) -> None:
    resign(ledger, 2, previous=bytes(32))


def gap(ledger: FakeLedger) -> None:
    del ledger.blocks[2]


def no_certificate(ledger: FakeLedger) -> None:
    ledger.blocks[2] = replace(ledger.blocks[2], certificate=None)


def too_few(ledger: FakeLedger) -> None:
    resign(ledger, 4, signers=2)


def changed_header(ledger: FakeLedger) -> None:
    block = ledger.blocks[4]
    ledger.blocks[4] = replace(block, header=replace(block.header, state_root=b"\1" * 32))


def strangers(ledger: FakeLedger) -> None:
    header = ledger.blocks[4].header
    keys = [key_of(f"stranger {number}", KeyKind.SECP256K1) for number in range(3)]
    certificate = make_certificate({number: sign_header(key, header) for number, key in enumerate(keys)})
    ledger.blocks[4] = replace(ledger.blocks[4], certificate=certificate)


LIES: dict[str, tuple[Callable[[FakeLedger], None], str]] = {
    "link": (wrong_previous, "header 2: check 'link' failed"),
    "gap": (gap, "header 2: check 'gap' failed: expected height 2, got 3"),
    "missing certificate": (no_certificate, "header 2: check 'certificate' failed: there is none"),
    "no quorum": (too_few, "header 4: check 'certificate' failed: no-quorum"),
    "changed header": (changed_header, "header 4: check 'certificate' failed: bad-certificate"),
    "strangers": (strangers, "header 4: check 'certificate' failed: bad-certificate"),
    "time": (lambda ledger: resign(ledger, 4, time_ms=1), "header 4: check 'time' failed: 1 ms isn't above"),
    "commits": (lambda ledger: resign(ledger, 4, first_commit=9, last_commit=9), "header 4: check 'commits' failed"),
    "commits back": (lambda ledger: resign(ledger, 4, last_commit=3), "header 4: check 'commits' failed"),
    "epoch": (lambda ledger: resign(ledger, 4, epoch=1), "header 4: check 'epoch' failed: expected 0, got 1"),
    "chain": (lambda ledger: resign(ledger, 4, chain_hash=b"\1" * 32), "header 4: check 'chain' failed"),
    "set": (lambda ledger: resign(ledger, 4, validators_hash=b"\1" * 32), "header 4: check 'validator set' failed"),
}


@pytest.mark.parametrize("lie", sorted(LIES))
def test_every_lie_about_headers_is_named(lie: str) -> None:
    ledger = grown()
    change, message = LIES[lie]
    change(ledger)
    with pytest.raises(IntegrityError) as caught:
        follow(ledger)
    assert str(caught.value).startswith(message)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize("name", [field.name for field in fields(Header)])
def test_every_field_of_the_genesis_header_is_that_of_the_document(name: str) -> None:
    ledger = grown(0)
    header = ledger.blocks[0].header
    true = getattr(header, name)
    false = replace(header, **{name: true + 1 if isinstance(true, int) else b"\1" * 32})
    with pytest.raises(IntegrityError, match=f"^genesis header: check '{name.replace('_', ' ')}' failed: expected "):
        verify_headers(trusted(ledger), [(false, None)], ledger.validators)


def test_a_set_may_change_only_as_a_closing_header_names_it() -> None:
    ledger = grown(2)
    _, keys = make_genesis()
    resign(ledger, 2, next_validators_hash=ledger.validators.hash)
    ledger.append([])
    closing = ledger.blocks[2].header
    header = replace(ledger.blocks[3].header, previous=closing.hash, epoch=0)
    with pytest.raises(IntegrityError, match="check 'epoch' failed: expected 1, got 0"):
        verify_headers(
            trusted(ledger),
            [(block.header, block.certificate) for block in ledger.blocks[:3]] + [(header, ledger.certify(header))],
            ledger.validators,
        )
    opened = replace(header, epoch=1)
    last = verify_headers(
        trusted(ledger),
        [(block.header, block.certificate) for block in ledger.blocks[:3]] + [(opened, ledger.certify(opened))],
        ledger.validators,
    )
    assert last == opened
    assert set(keys) == {bytes(item.address) for item in ledger.validators.validators}


def bundle(ledger: FakeLedger, key: bytes) -> StateProofBundle:
    block = ledger.blocks[-1]
    proof = merkle.prove(merkle.build(ledger.entries), key)
    return StateProofBundle(block.header, block.certificate, ledger.validators, key, ledger.get(key), proof)


def test_state_proofs() -> None:
    ledger = grown(1)
    present, absent = account_key(ALICE.address), account_key(b"\7" * 20)
    chain = trusted(ledger)
    assert [check.name for check in verify_state_proof(chain, bundle(ledger, present))] == [
        "chain",
        "validator set",
        "certificate",
        "state proof",
    ]
    verify_state_proof(chain, bundle(ledger, absent))
    true = bundle(ledger, present)
    lies = {
        "state proof": replace(true, value=b"more money"),
        "certificate": replace(true, header=replace(true.header, state_root=b"\1" * 32)),
        "validator set": replace(true, header=replace(true.header, validators_hash=b"\1" * 32)),
        "chain": replace(true, header=replace(true.header, chain_hash=b"\1" * 32)),
    }
    for check, lie in lies.items():
        with pytest.raises(IntegrityError, match=f"check '{check}' failed"):
            verify_state_proof(chain, lie)
    with pytest.raises(IntegrityError, match="check 'state proof' failed"):
        verify_state_proof(chain, replace(true, value=None))
    with pytest.raises(IntegrityError, match="check 'state proof' failed"):
        verify_state_proof(chain, replace(bundle(ledger, absent), value=b"a gift"))
    with pytest.raises(IntegrityError, match="check 'certificate' failed: nothing is certified at height 0"):
        verify_state_proof(chain, bundle(FakeLedger(*make_genesis()), present))
    other = FakeLedger(*make_genesis(validators=5))
    with pytest.raises(IntegrityError, match="check 'chain' failed"):
        verify_state_proof(trusted(other), true)


async def published(client: AsyncClient, tmp_path: Path) -> str:
    (tmp_path / "model").write_bytes(b"weights")
    return (await client.publish(tmp_path / "model", key=ALICE, license="MIT")).cid


async def test_verify_a_record_of_a_node(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    cid = await published(client, tmp_path)
    result = await client.verify(cid)
    assert [check.name for check in result.checks] == ["chain", "validator set", "certificate", "state proof", "record"]
    assert (result.valid, result.publisher, result.record.license) == (True, format_address(ALICE.address), "MIT")
    assert result.trust == f"genesis file {node.home / 'genesis.json'}"
    by_hash = await client.verify(cid, genesis=node.ledger.genesis.hash.hex())
    assert by_hash.trust == f"genesis hash {node.ledger.genesis.hash.hex()}, as given"
    async with AsyncClient(client.endpoint, home=tmp_path / "elsewhere") as stranger:
        assert (await stranger.verify(cid)).trust == UNVOUCHED
        assert (await stranger.verify_chain()).trust == UNVOUCHED
        assert (await stranger.verify_chain(genesis=node.home / "genesis.json")).headers_checked == 2


async def test_verify_the_chain_of_a_node(
    client: AsyncClient, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(25):
        ledger.append([])
    monkeypatch.setattr("mpisa.sdk.light.PAGE_HEADERS", 10)
    seen: list[tuple[int, int | None]] = []
    result = await client.verify_chain(progress=lambda done, total: seen.append((done, total)))
    assert (result.height, result.headers_checked, result.valid) == (25, 26, True)
    assert seen == [(10, 26), (20, 26), (26, 26)]


async def test_another_genesis_is_refused(client: AsyncClient, tmp_path: Path) -> None:
    cid = await published(client, tmp_path)
    other = tmp_path / "other.json"
    other.write_text(make_genesis(validators=5)[0].to_json())
    with pytest.raises(IntegrityError, match="check 'chain' failed"):
        await client.verify(cid, genesis=other)
    with pytest.raises(IntegrityError, match="genesis header: check 'chain hash' failed"):
        await client.verify_chain(genesis=other)
    with pytest.raises(IntegrityError, match="genesis: check 'hash' failed"):
        await client.verify_chain(genesis="ab" * 32)
    with pytest.raises(UsageError, match="no such genesis file"):
        await client.verify_chain(genesis=tmp_path / "missing.json")
    other.write_text("{}")
    with pytest.raises(IntegrityError, match="check 'genesis' failed"):
        await client.verify_chain(genesis=other)


async def test_a_lying_node_is_caught(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    cid = await published(client, tmp_path)
    true = node.chain.prove
    node.chain.prove = lambda key, height=None: replace(true(key, height), value=b"forged")  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="check 'state proof' failed"):
        await client.verify(cid)
    node.chain.prove = lambda key, height=None: replace(true(key, height), certificate=None)  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="check 'certificate' failed"):
        await client.verify(cid)
    node.chain.prove = lambda key, height=None: true(account_key(ALICE.address))  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="check 'key' failed: the proof is of another state entry"):
        await client.verify(cid)
    node.chain.headers = lambda first, limit: ()  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="header 0: check 'gap' failed"):
        await client.verify_chain()


async def test_a_node_that_hides_its_head_is_caught(client: AsyncClient, node: FakeNode, ledger: FakeLedger) -> None:
    for _ in range(3):
        ledger.append([])
    fork = FakeLedger(*make_genesis())
    for _ in range(3):
        fork.append([])

    def forked(first: int, limit: int) -> tuple[HeaderBundle, ...]:
        blocks = fork.blocks[first : first + limit]
        return tuple(HeaderBundle(block.header, block.certificate, fork.validators) for block in blocks)

    head: Header = ledger.blocks[-1].header
    if head.hash == fork.blocks[-1].header.hash:
        fork.append([])
    resign(fork, 3, tx_root=b"\2" * 32)
    node.chain.headers = forked  # type: ignore[method-assign]
    with pytest.raises(IntegrityError, match="header 3: check 'head' failed"):
        await client.verify_chain()


async def test_no_record_is_not_found(client: AsyncClient, tmp_path: Path) -> None:
    cid = await published(client, tmp_path)
    with pytest.raises(NotFound):
        await client.verify("bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")
    with pytest.raises(NotFound, match="no record about"):
        await client.verify(cid, publisher=format_address(key_of("bob").address))
