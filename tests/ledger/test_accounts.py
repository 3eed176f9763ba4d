"""Accounts: keys of all kinds, keys put on file, rotation, fees and balances."""

import pytest

from mpisa.primitives.account import Account
from mpisa.primitives.errors import IntegrityError, Rejection, RejectionReason
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.operations import Faucet, Transfer, rotate_key
from mpisa.primitives.receipt import Receipt, ReceiptStatus
from mpisa.primitives.state_keys import account_key
from mpisa.primitives.transaction import MAX_TRANSACTION_BYTES

U64 = (1 << 64) - 1


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_key_of_any_kind_opens_its_account_with_its_first_transaction(chain, make_key, kind):
    key = make_key("newcomer", kind)
    chain.run(chain.alice, Transfer(key.address, 100))
    assert chain.account(key) == Account(key.address, None, 0, 100)
    first = chain.sign(key, Transfer(chain.bob.address, 40), public_key=key.public_key)
    receipt = chain.execute(first.raw).receipts[0]
    assert receipt == Receipt(first.hash, ReceiptStatus.APPLIED, nonce_used=True)
    assert chain.account(key) == Account(key.address, key.public_key, 1, 60)
    assert chain.run(key, Transfer(chain.bob.address, 60)).status is ReceiptStatus.APPLIED
    assert chain.account(key) == Account(key.address, key.public_key, 2, 0)


@pytest.mark.parametrize("kind", list(KeyKind))
def test_an_account_that_does_not_exist_yet_may_call_the_faucet_for_itself(chain, make_key, kind):
    key = make_key("newcomer", kind)
    assert chain.run(key, Faucet(key.address, 1_000), public_key=key.public_key).status is ReceiptStatus.APPLIED
    assert chain.account(key) == Account(key.address, key.public_key, 1, 1_000)


def test_an_account_without_funds_cannot_open_itself_where_fees_are_due(make_chain, make_key):
    chain = make_chain(minimum_fee=1)
    key = make_key("newcomer")
    receipt = chain.run(key, Faucet(key.address, 5), public_key=key.public_key, fee=1)
    assert (receipt.reason, receipt.nonce_used) == (RejectionReason.INSUFFICIENT_BALANCE, False)
    assert chain.account(key) is None


def test_giving_the_key_on_file_again_is_fine(chain):
    receipt = chain.run(chain.alice, Transfer(chain.bob.address, 1), public_key=chain.alice.public_key)
    assert receipt.status is ReceiptStatus.APPLIED


@pytest.mark.parametrize("kind", list(KeyKind))
def test_after_a_rotation_only_the_new_key_signs(chain, make_key, kind):
    new = make_key("new", kind)
    alice = chain.alice.address
    assert chain.run(chain.alice, rotate_key(new, chain.chain_hash, alice, 0)).status is ReceiptStatus.APPLIED
    assert chain.account(chain.alice) == Account(alice, new.public_key, 1, 1_000_000)
    old = chain.sign(chain.alice, Transfer(chain.bob.address, 1))
    assert chain.execute(old.raw).receipts[0].reason is RejectionReason.BAD_SIGNATURE
    fresh = chain.sign(new, Transfer(chain.bob.address, 1), sender=alice, nonce=1)
    assert chain.execute(fresh.raw).receipts[0].status is ReceiptStatus.APPLIED


def test_a_rotation_to_someone_elses_key_needs_their_proof(chain):
    stolen = rotate_key(chain.bob, chain.chain_hash, chain.bob.address, 0)
    receipt = chain.run(chain.alice, stolen)
    assert receipt.reason is RejectionReason.BAD_SIGNATURE
    assert chain.account(chain.alice).public_key == chain.alice.public_key


def test_a_rotation_rolls_back_with_its_bundle(chain, make_key):
    new = make_key("new")
    rotation = rotate_key(new, chain.chain_hash, chain.alice.address, 0)
    receipt = chain.run(chain.alice, rotation, Transfer(chain.bob.address, 1_000_001))
    assert receipt.reason is RejectionReason.INSUFFICIENT_BALANCE
    assert chain.account(chain.alice) == Account(chain.alice.address, chain.alice.public_key, 1, 1_000_000)


def test_the_largest_rotation_fits_a_transaction(chain, make_key):
    new = make_key("new", KeyKind.ML_DSA_65)
    rotation = rotate_key(new, chain.chain_hash, chain.carol.address, 0)
    signed = chain.sign(chain.carol, rotation, public_key=chain.carol.public_key, memo="x" * 256)
    assert len(signed.raw) < MAX_TRANSACTION_BYTES // 4
    assert chain.execute(signed.raw).receipts[0].status is ReceiptStatus.APPLIED


def test_fees_are_burned_even_when_an_operation_fails(make_chain):
    chain = make_chain(minimum_fee=10, operation_fee=5)
    receipt = chain.run(chain.alice, Transfer(chain.bob.address, 999_990), fee=15)
    assert (receipt.reason, receipt.fee, receipt.nonce_used) == (RejectionReason.INSUFFICIENT_BALANCE, 15, True)
    assert (chain.balance(chain.alice), chain.balance(chain.bob)) == (999_985, 1_000_000)
    assert chain.run(chain.alice, Transfer(chain.bob.address, 85), fee=20).fee == 20
    assert (chain.balance(chain.alice), chain.balance(chain.bob)) == (999_880, 1_000_085)


def test_a_balance_may_reach_but_not_pass_64_bits(make_chain):
    chain = make_chain(faucet_limit=U64)
    room = U64 - 1_000_000
    assert chain.run(chain.alice, Faucet(chain.bob.address, room)).status is ReceiptStatus.APPLIED
    assert chain.balance(chain.bob) == U64
    assert chain.run(chain.alice, Faucet(chain.bob.address, 1)).reason is RejectionReason.BALANCE_OVERFLOW
    assert chain.run(chain.alice, Transfer(chain.bob.address, 1)).reason is RejectionReason.BALANCE_OVERFLOW
    assert (chain.balance(chain.alice), chain.balance(chain.bob)) == (1_000_000, U64)


def test_the_faucet_gives_up_to_its_limit_an_operation(chain, make_key):
    recipients = [make_key(f"r{i}").address for i in range(3)]
    receipt = chain.run(chain.alice, *[Faucet(address, 1_000) for address in recipients])
    assert receipt.status is ReceiptStatus.APPLIED
    assert [chain.state[account_key(address)] for address in recipients] == [
        Account(address, None, 0, 1_000).encode() for address in recipients
    ]


def test_a_transaction_is_valid_strictly_before_its_expiry(chain):
    last = chain.sign(chain.alice, Transfer(chain.bob.address, 1), expires_ms=chain.time_ms + 1)
    assert chain.execute(last.raw).receipts[0].status is ReceiptStatus.APPLIED


def test_a_damaged_account_stops_the_node_instead_of_rejecting_the_transaction(chain):
    chain.state[account_key(chain.alice.address)] = b"\xc1"
    with pytest.raises(IntegrityError, match=r"^the state is damaged: account 0x[0-9a-f]{40}: malformed: "):
        chain.run(chain.bob, Transfer(chain.alice.address, 1))


def test_accounts_come_back_from_their_bytes(chain):
    for key in (chain.alice, chain.bob, chain.carol):
        account = Account(key.address, key.public_key, 7, U64, 3)
        assert Account.decode(key.address, account.encode()) == account
    assert Account(chain.bob.address, None, 0, 5).to_json() == {
        "address": "0x" + chain.bob.address.hex(),
        "key_kind": None,
        "public_key": None,
        "nonce": 0,
        "balance": 5,
        "handles": 0,
    }


def test_a_stored_key_of_no_known_kind_is_refused(chain):
    damaged = Account(chain.alice.address, chain.alice.public_key, 0, 0).encode().replace(b"\x01", b"\x09", 1)
    with pytest.raises(Rejection) as refusal:
        Account.decode(chain.alice.address, damaged)
    assert str(refusal.value) == "bad-key: account.public_key: 33 bytes are no key of a known kind"
