"""The transition as a whole: order within a block, whose hash a receipt carries, what the node may inject."""

from dataclasses import replace

import pytest

from mpisa.ledger.payload import encode_payload
from mpisa.ledger.transition import execute_block, execute_payloads
from mpisa.primitives.digest import tagged
from mpisa.primitives.errors import IntegrityError, RejectionReason
from mpisa.primitives.operations import MAX_OPERATIONS, Transfer
from mpisa.primitives.receipt import Receipt, ReceiptStatus
from mpisa.primitives.state_keys import parameters_key
from mpisa.primitives.transaction import decode_transaction, raw_hash


def test_transactions_of_one_sender_apply_in_the_order_of_their_nonces(chain):
    signed = [chain.sign(chain.alice, Transfer(chain.bob.address, 1), nonce=nonce) for nonce in range(3)]
    receipts = chain.execute(*[item.raw for item in signed]).receipts
    assert receipts == tuple(Receipt(item.hash, ReceiptStatus.APPLIED, nonce_used=True) for item in signed)
    assert chain.balance(chain.bob) == 1_000_003


def test_the_same_transaction_twice_in_a_block_applies_once(chain):
    signed = chain.sign(chain.alice, Transfer(chain.bob.address, 1))
    first, second = chain.execute(signed.raw, signed.raw).receipts
    assert (first.status, first.nonce_used) == (ReceiptStatus.APPLIED, True)
    assert (second.reason, second.nonce_used, second.tx_hash) == (RejectionReason.REPLAYED, False, signed.hash)


def test_a_copy_with_a_false_signature_takes_nothing_from_the_original(chain):
    good = chain.sign(chain.alice, Transfer(chain.bob.address, 1))
    copy = replace(good, signature=bytes(64))
    false, true = chain.execute(copy.raw, good.raw).receipts
    assert false.tx_hash == raw_hash(copy.raw) != good.hash
    assert true == Receipt(good.hash, ReceiptStatus.APPLIED, nonce_used=True)


def test_no_bytes_get_the_receipt_of_a_transaction_that_they_are_not(chain):
    victim = chain.sign(chain.alice, Transfer(chain.bob.address, 1))
    preimage = b"MPISA/transaction/1\0" + victim.body  # its sha256 is the victim's hash
    payloads = [encode_payload([preimage]), preimage, victim.raw, encode_payload([victim.raw])]
    result = execute_payloads(chain.state, payloads, chain.context)
    assert [receipt.status is ReceiptStatus.APPLIED for receipt in result.receipts] == [False, True, False, False]
    assert [receipt.tx_hash for receipt in result.receipts] == [
        raw_hash(preimage),
        victim.hash,
        tagged("payload", preimage),
        tagged("payload", victim.raw),
    ]
    names = [receipt.tx_hash for receipt in result.receipts] + [raw_hash(victim.raw)]
    assert len(set(names)) == len(names)


def test_a_post_quantum_transaction_signed_twice_has_one_hash_and_applies_once(chain):
    first = chain.sign(chain.carol, Transfer(chain.bob.address, 1))
    second = chain.sign(chain.carol, Transfer(chain.bob.address, 1))
    assert (first.hash, first.signature == second.signature) == (second.hash, False)
    receipts = chain.execute(first.raw, second.raw).receipts
    assert [receipt.nonce_used for receipt in receipts] == [True, False]


def test_a_bundle_of_the_most_operations_applies_or_fails_whole(chain, make_key):
    recipients = [make_key(f"r{i}").address for i in range(MAX_OPERATIONS)]
    assert chain.run(chain.alice, *[Transfer(address, 1) for address in recipients]).status is ReceiptStatus.APPLIED
    assert chain.balance(chain.alice) == 1_000_000 - MAX_OPERATIONS
    too_much = [Transfer(address, 10_000) for address in recipients]
    receipt = chain.run(chain.alice, *too_much)
    assert receipt.detail == "operations[99].transfer: 10000 is more than the balance of 9900"
    assert chain.balance(chain.alice) == 1_000_000 - MAX_OPERATIONS


def test_the_signature_check_is_asked_with_the_bytes_and_the_key_on_file(chain):
    signed = chain.sign(chain.bob, Transfer(chain.alice.address, 1))
    asked = []
    result = execute_block(
        chain.state, [signed.raw], chain.context, signature_ok=lambda item, key: asked.append((item, key)) or False
    )
    assert asked == [(signed, chain.bob.public_key)]
    assert result.receipts[0].detail == "signature: not made by the sender's secp256k1 key"
    assert result.changes == ()


def test_a_decoder_that_remembers_is_used(chain):
    signed = chain.sign(chain.alice, Transfer(chain.bob.address, 1))
    known = {signed.raw: signed}
    calls = []

    def decode(raw):
        calls.append(raw)
        return known.get(raw) or decode_transaction(raw)

    result = execute_block(chain.state, [signed.raw, b"junk"], chain.context, decode=decode)
    assert calls == [signed.raw, b"junk"]
    assert [receipt.status for receipt in result.receipts] == [ReceiptStatus.APPLIED, ReceiptStatus.REJECTED]


def test_an_empty_block_changes_nothing(chain):
    result = execute_block(chain.state, [], chain.context)
    assert (result.changes, result.transactions, result.receipts) == ((), (), ())


def test_execution_leaves_the_view_alone(chain):
    before = dict(chain.state)
    execute_block(chain.state, [chain.sign(chain.alice, Transfer(chain.bob.address, 1)).raw], chain.context)
    assert chain.state == before


def test_a_state_without_parameters_is_damaged(chain):
    del chain.state[parameters_key()]
    with pytest.raises(IntegrityError, match=r"^the state is damaged: it holds no chain parameters$"):
        execute_block(chain.state, [], chain.context)


def test_receipts_come_back_from_their_bytes_and_agree_without_their_words(chain):
    receipt = Receipt(bytes(32), ReceiptStatus.REJECTED, RejectionReason.NOT_OWNER, "x" * 300, nonce_used=True, fee=9)
    assert Receipt.decode_stored(receipt.encode_stored()) == replace(receipt, detail="x" * 240)
    assert Receipt.decode(receipt.encode()) == replace(receipt, detail="")
    assert replace(receipt, detail="other words").encode() == receipt.encode()
    assert receipt.to_json() == {
        "tx": "00" * 32,
        "status": "rejected",
        "reason": "not-owner",
        "detail": "x" * 300,
        "nonce_used": True,
        "fee": 9,
    }
