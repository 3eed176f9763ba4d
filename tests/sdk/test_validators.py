"""An operator's calls: what they send, what they ask back, and what they refuse before anything is sent."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from mpisa.ledger.staking import read_registration
from mpisa.primitives.account import Account
from mpisa.primitives.errors import Rejection, RejectionReason, UsageError
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.possession import KeyRole, verify_record
from mpisa.primitives.state_keys import account_key
from mpisa.sdk import models
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.validators import KeyChoice
from tests.api.fake_node import FakeLedger, key_of

ALICE, BOB = key_of("alice"), key_of("bob")
KEYS = KeyChoice(
    key_of("consensus 9"), key_of("certificate 9", KeyKind.SECP256K1), key_of("quantum", KeyKind.ML_DSA_65)
)
JOINING = {"name": "alices", "peer_id": "12D3KooWAlices", "stake": 500}


def registration(ledger: FakeLedger, key=ALICE):
    return read_registration(ledger.get, key.address)


async def test_join_registers_keys_that_prove_themselves(client: AsyncClient, ledger: FakeLedger) -> None:
    outcome = await client.join_validator(KEYS, **JOINING, key=ALICE)
    assert (outcome.status, outcome.height) == ("certified", 1)
    record = registration(ledger).record
    assert verify_record(record, ledger.genesis.chain_hash) == tuple(KeyRole)
    staking = await client.staking()
    assert (staking.height, staking.epoch, staking.pending, len(staking.validators)) == (1, 0, True, 5)
    assert staking.validators[4] == models.ValidatorStanding(
        name="alices",
        operator=format_address(ALICE.address),
        address=format_address(KEYS.certificate.address),
        power=0,
        next_power=500,
        change="joins",
        bonded=500,
        waiting=0,
        consensus_key=KEYS.consensus.public_key.data.hex(),
        peer_id="12D3KooWAlices",
        post_quantum_key=KEYS.post_quantum.public_key.data.hex(),
    )
    assert [(item.power, item.next_power, item.change) for item in staking.validators[:4]] == [(1, 1, "none")] * 4


async def test_bond_unbond_and_what_stands_in_between(client: AsyncClient, ledger: FakeLedger) -> None:
    await client.join_validator(KEYS, **JOINING, key=ALICE)
    await client.bond(40, key=ALICE)
    await client.unbond(100, key=ALICE)
    found = await client.stake(format_address(ALICE.address))
    assert (found.bonded, found.waiting, found.returns) == (440, 100, ())
    assert (found.validator.power, found.validator.next_power) == (0, 440)
    assert (await client.account(format_address(ALICE.address))).balance == 10**12 - 540


async def test_who_never_was_in_the_set_sees_its_stake_on_the_way_back(client: AsyncClient, ledger: FakeLedger) -> None:
    await client.join_validator(KEYS, **JOINING, key=ALICE)
    await client.leave_validator(key=ALICE)
    found = await client.stake(format_address(ALICE.address))
    due_ms = ledger.blocks[2].header.time_ms + ledger.genesis.parameters.staking.unbonding_ms
    assert found == models.Stake(
        height=2,
        operator=format_address(ALICE.address),
        bonded=0,
        waiting=0,
        returns=(models.StakeReturn(amount=500, due_ms=due_ms),),
    )


async def test_a_validators_own_certificate_key_is_its_operator_where_the_genesis_says_so(
    client: AsyncClient, ledger: FakeLedger
) -> None:
    operator = key_of("certificate 0", KeyKind.SECP256K1)
    new = KeyChoice(consensus=key_of("fresh"), certificate=key_of("fresh", KeyKind.SECP256K1))
    ledger.entries[account_key(operator.address)] = Account(operator.address, None, 0, 10).encode()
    outcome = await client.change_validator(new, peer_id="12D3KooWElsewhere", key=operator)
    assert outcome.status == "certified"
    staking = await client.staking()
    (changed,) = [item for item in staking.validators if item.operator == format_address(operator.address)]
    assert (changed.change, changed.next_address) == ("changes", format_address(new.certificate.address))
    assert registration(ledger, operator).record.peer_id == "12D3KooWElsewhere"


async def test_a_post_quantum_key_is_taken_away(client: AsyncClient, ledger: FakeLedger) -> None:
    await client.join_validator(KEYS, **JOINING, key=ALICE)
    await client.change_validator(KeyChoice(drop_post_quantum=True), key=ALICE)
    assert registration(ledger).record.post_quantum_key == b""


async def test_the_ledgers_reason_comes_back(client: AsyncClient) -> None:
    with pytest.raises(Rejection) as refusal:
        await client.bond(5, key=ALICE)
    assert refusal.value.reason is RejectionReason.NOT_VALIDATOR
    assert refusal.value.detail == f"operations[0].bond: {format_address(ALICE.address)} runs no validator"


async def test_two_calls_at_once_prove_their_keys_for_their_own_nonce(client: AsyncClient, ledger: FakeLedger) -> None:
    """The proofs are made anew for the nonce that each transaction gets."""
    await client.join_validator(KEYS, **JOINING, key=ALICE)
    changes = [
        client.change_validator(KeyChoice(consensus=key_of(f"rotated {number}")), key=ALICE) for number in range(4)
    ]
    outcomes = await asyncio.gather(*changes)
    assert [outcome.status for outcome in outcomes] == ["certified"] * 4
    assert verify_record(registration(ledger).record, ledger.genesis.chain_hash) == tuple(KeyRole)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (KeyChoice(certificate=KEYS.certificate), "a validator needs a consensus key and a certificate key"),
        (
            replace(KEYS, consensus=KEYS.certificate),
            "the consensus key: expected a key of kind ed25519, got secp256k1",
        ),
        (
            replace(KEYS, certificate=KEYS.consensus),
            "the certificate key: expected a key of kind secp256k1, got ed25519",
        ),
        (
            replace(KEYS, post_quantum=KEYS.consensus),
            "the post-quantum key: expected a key of kind ml-dsa-65, got ed25519",
        ),
        (replace(KEYS, drop_post_quantum=True), "a post-quantum key is either given or taken away"),
    ],
)
async def test_keys_of_the_wrong_kind_are_refused_here(client: AsyncClient, keys: KeyChoice, message: str) -> None:
    with pytest.raises(UsageError) as refusal:
        await client.join_validator(keys, **JOINING, key=ALICE)
    assert str(refusal.value) == message
