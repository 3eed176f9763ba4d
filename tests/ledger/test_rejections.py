"""Every reason for which the ledger refuses a transaction, with its whole message, at execution and at submission."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from mpisa.primitives import codec
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import ArtefactName, format_address
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.operations import Faucet, Publish, SetName, Transfer, rotate_key
from mpisa.primitives.receipt import Receipt, ReceiptStatus
from mpisa.primitives.record import ArtefactKind, ProvenanceRecord
from mpisa.primitives.transaction import MAX_TRANSACTION_BYTES, SignedTransaction, raw_hash, transaction_hash

U64 = (1 << 64) - 1
R = RejectionReason
SUBJECT = Cid.of(b"subject")
NEVER_PUBLISHED = Cid.of(b"never published")


@dataclass(frozen=True)
class Case:
    """`build` gives (raw, detail) on a fresh chain; `gate` is the stage that stops it."""

    name: str
    reason: RejectionReason
    gate: str
    build: Any
    parameters: dict[str, Any] | None = None


def forged(chain, **body_changes):
    """Bytes that sign_transaction would refuse to make: encoded by hand, without a useful signature."""
    fields = {
        "version": 1,
        "chain_hash": chain.chain_hash,
        "sender": chain.alice.address,
        "nonce": 0,
        "expires_ms": chain.time_ms + 1,
        "fee": 0,
        "operations": ((1, chain.bob.address, 1),),
        "public_key": None,
        "memo": None,
    } | body_changes
    return codec.encode((tuple(fields.values()), bytes(64)))


def operations(*values):
    return lambda chain: forged(chain, operations=values)


def transfer(chain, amount=1):
    return Transfer(chain.bob.address, amount)


def signed(key="alice", make=transfer, **changes):
    return lambda chain: chain.sign(getattr(chain, key), make(chain), **changes).raw


def in_use(chain):
    """Alice's first transaction, after it was applied once."""
    raw = chain.sign(chain.alice, transfer(chain)).raw
    chain.execute(raw)
    return raw


def tampered(chain):
    good = chain.sign(chain.alice, transfer(chain))
    return replace(good, signature=good.signature[:-1] + bytes((good.signature[-1] ^ 1,))).raw


def signed_by_another(chain):
    transaction = chain.transaction(chain.alice, transfer(chain))
    return replace(chain.sign(chain.stranger, transfer(chain), sender=chain.alice.address), transaction=transaction).raw


def other_key_on_file(chain):
    return chain.sign(chain.alice, transfer(chain), public_key=chain.stranger.public_key).raw


def key_of_another_address(chain):
    return chain.sign(chain.stranger, transfer(chain), public_key=chain.bob.public_key).raw


def funded_without_key(chain):
    chain.execute(chain.sign(chain.alice, Transfer(chain.stranger.address, 5)).raw)
    return chain.sign(chain.stranger, transfer(chain)).raw


def overflowing(chain):
    chain.execute(chain.sign(chain.alice, Faucet(chain.bob.address, U64 - 1_000_000)).raw)
    return chain.sign(chain.alice, transfer(chain)).raw


def taken_name(chain):
    chain.execute(chain.sign(chain.bob, SetName(ArtefactName("bob", "m"), SUBJECT)).raw)
    return chain.sign(chain.alice, SetName(ArtefactName("bob", "other"), SUBJECT)).raw


def set_name(name, cid=SUBJECT):
    return lambda chain: SetName(ArtefactName.parse(name), cid)


def rotation(chain, nonce=0):
    new = chain.bob
    return rotate_key(new, chain.chain_hash, chain.alice.address, nonce)


def record_value(**changes):
    fields = {
        "v": 1,
        "kind": "model",
        "subject": SUBJECT.to_bytes(),
        "size": 1,
        "media_type": None,
        "inputs": (),
        "license": None,
        "supersedes": None,
    } | changes
    return operations((2, fields))


def superseding(chain):
    return Publish(
        ProvenanceRecord(ArtefactKind.MODEL, Cid.of(b"new"), 1, supersedes=NEVER_PUBLISHED),
    )


CASES = [
    # bytes
    Case("empty", R.MALFORMED, "bytes", lambda chain: b""),
    Case("not a list", R.MALFORMED, "bytes", lambda chain: codec.encode(7)),
    Case("one field", R.MALFORMED, "bytes", lambda chain: codec.encode((1,))),
    Case("trailing", R.MALFORMED, "bytes", lambda chain: in_use(chain) + b"\0"),
    Case("long form", R.NOT_CANONICAL, "bytes", lambda chain: b"\xdc\0\2" + in_use(chain)[1:]),
    Case("too large", R.TOO_LARGE, "bytes", lambda chain: bytes(MAX_TRANSACTION_BYTES + 1)),
    Case("long signature", R.TOO_LARGE, "bytes", lambda chain: codec.encode(((), bytes(3_310)))),
    Case("version", R.MALFORMED, "bytes", lambda chain: forged(chain, version=2)),
    Case("version true", R.MALFORMED, "bytes", lambda chain: forged(chain, version=True)),
    Case("nonce too big", R.OUT_OF_RANGE, "bytes", lambda chain: forged(chain, nonce=1 << 63)),
    Case("negative fee", R.OUT_OF_RANGE, "bytes", lambda chain: forged(chain, fee=-1)),
    Case("bad key kind", R.BAD_KEY, "bytes", lambda chain: forged(chain, public_key=b"\x09" + bytes(32))),
    Case("memo too long", R.TOO_LARGE, "bytes", lambda chain: forged(chain, memo="x" * 257)),
    Case("memo too long in bytes", R.TOO_LARGE, "bytes", lambda chain: forged(chain, memo="\u20ac" * 100)),
    Case("memo with escape", R.MALFORMED, "bytes", lambda chain: forged(chain, memo="\x1b[2J")),
    Case("no operations", R.MALFORMED, "bytes", operations()),
    Case("101 operations", R.TOO_LARGE, "bytes", operations(*[(1, bytes(19) + bytes((i,)), 1) for i in range(101)])),
    Case("no code", R.MALFORMED, "bytes", operations(())),
    Case("unknown code", R.MALFORMED, "bytes", operations((99,))),
    Case("short address", R.MALFORMED, "bytes", operations((1, bytes(19), 1))),
    Case("fields missing", R.MALFORMED, "bytes", operations((1, bytes(20)))),
    Case("zero transfer", R.ZERO_AMOUNT, "bytes", operations((1, bytes(20), 0))),
    Case("zero faucet", R.ZERO_AMOUNT, "bytes", operations((1, bytes(20), 3), (5, bytes(20), 0))),
    Case("self transfer", R.SELF_TRANSFER, "bytes", lambda c: forged(c, operations=((1, c.alice.address, 1),))),
    Case("same target twice", R.DUPLICATE_OPERATION, "bytes", operations((1, bytes(20), 1), (1, bytes(20), 2))),
    Case("bad name", R.BAD_NAME, "bytes", operations((3, "UPPER/model@latest", None))),
    Case("name without tag", R.BAD_NAME, "bytes", operations((3, "owner/model", None))),
    Case("bad cid", R.BAD_CID, "bytes", operations((3, "owner/model@latest", b"\x07"))),
    Case("unknown kind", R.BAD_RECORD, "bytes", record_value(kind="poem")),
    Case("record version", R.BAD_RECORD, "bytes", record_value(v=2)),
    Case("negative size", R.OUT_OF_RANGE, "bytes", record_value(size=-1)),
    Case("media type", R.BAD_RECORD, "bytes", record_value(media_type="text")),
    Case("licence", R.BAD_LICENSE, "bytes", record_value(license="Apache-2.0 OR")),
    Case("extra field", R.MALFORMED, "bytes", record_value(extra=1)),
    # authentication
    Case("wrong chain", R.WRONG_CHAIN, "signature", signed(chain_hash=bytes(32))),
    Case("unknown account", R.UNKNOWN_ACCOUNT, "signature", signed("stranger")),
    Case("no key on file", R.MISSING_KEY, "signature", funded_without_key),
    Case("another key than on file", R.KEY_MISMATCH, "signature", other_key_on_file),
    Case("key of another address", R.KEY_MISMATCH, "signature", key_of_another_address),
    Case("tampered signature", R.BAD_SIGNATURE, "signature", tampered),
    Case("another's signature", R.BAD_SIGNATURE, "signature", signed_by_another),
    # admission
    Case("expired", R.EXPIRED, "admission", lambda chain: signed(expires_ms=chain.time_ms)(chain)),
    Case("replayed", R.REPLAYED, "admission", in_use),
    Case("nonce gap", R.NONCE_GAP, "admission", signed(nonce=2)),
    Case("fee too low", R.FEE_TOO_LOW, "admission", signed(fee=14), {"minimum_fee": 10, "operation_fee": 5}),
    Case("fee unpaid", R.INSUFFICIENT_BALANCE, "admission", signed(fee=1_000_001)),
    # operations
    Case("poor", R.INSUFFICIENT_BALANCE, "operations", signed(make=lambda chain: transfer(chain, 1_000_001))),
    Case("overflow", R.BALANCE_OVERFLOW, "operations", overflowing, {"faucet_limit": U64}),
    Case(
        "no faucet",
        R.FAUCET_DISABLED,
        "operations",
        signed(make=lambda c: Faucet(c.bob.address, 1)),
        {"faucet_limit": 0},
    ),
    Case("faucet limit", R.FAUCET_LIMIT, "operations", signed(make=lambda chain: Faucet(chain.bob.address, 1_001))),
    Case("not the owner", R.NOT_OWNER, "operations", taken_name),
    Case("reserved", R.NAME_RESERVED, "operations", signed(make=set_name("mpisa/m")), {"reserved_handles": ("mpisa",)}),
    Case("like an address", R.NAME_RESERVED, "operations", signed(make=set_name("0xabc/m"))),
    Case("no handles", R.HANDLE_LIMIT, "operations", signed(make=set_name("a/m")), {"handles_per_account": 0}),
    Case(
        "handle fee unpaid",
        R.INSUFFICIENT_BALANCE,
        "operations",
        signed(make=set_name("a/m")),
        {"handle_fee": 2_000_000},
    ),
    Case("name not set", R.UNKNOWN_NAME, "operations", signed(make=set_name("a/m", None))),
    Case("supersedes nothing", R.UNKNOWN_RECORD, "operations", signed(make=superseding)),
    Case("proof for another nonce", R.BAD_SIGNATURE, "operations", signed(make=lambda c: rotation(c, 1))),
    Case(
        "rotation to the same key",
        R.KEY_MISMATCH,
        "operations",
        signed(make=lambda c: rotate_key(c.alice, c.chain_hash, c.alice.address, 0)),
    ),
]

DETAILS = {
    "empty": "truncated: 0 bytes are no whole value",
    "not a list": "transaction: expected a list, got int",
    "one field": "transaction: expected 2 items, got 1",
    "trailing": "not MessagePack of this kind: unpack(b) received extra data.",
    "long form": "the bytes aren't the shortest encoding with sorted, distinct map keys",
    "too large": "transaction: expected at most 65536 bytes, got 65537",
    "long signature": "transaction.signature: expected at most 3309 bytes, got 3310",
    "version": "transaction.version: expected 1, got 2",
    "version true": "transaction.version: expected 1, got True",
    "nonce too big": "transaction.nonce: expected 0..9223372036854775807, got 9223372036854775808",
    "negative fee": "transaction.fee: expected 0..18446744073709551615, got -1",
    "bad key kind": "transaction.public_key: expected a kind byte of 1 to 3, got 09",
    "memo too long": "transaction.memo: expected at most 256 characters, got 257",
    "memo too long in bytes": "transaction.memo: expected at most 256 bytes, got 300",
    "memo with escape": "transaction.memo: expected no control characters",
    "no operations": "operations: expected at least 1 item, got 0",
    "101 operations": "operations: expected at most 100 items, got 101",
    "no code": "operations[0].code: expected an integer, got NoneType",
    "unknown code": "operations[0].code: expected 1 to 10, got 99",
    "short address": "operations[0].to: expected 20 bytes, got 19",
    "fields missing": "operations[0].fields: expected 3 items, got 2",
    "zero transfer": "operations[0].amount: expected at least 1, got 0",
    "zero faucet": "operations[1].amount: expected at least 1, got 0",
    "self transfer": "operations[0].to: sender and recipient are the same account",
    "same target twice": "operations[1]: acts on the same target as operations[0]",
    "bad name": "operations[0].owner: expected at most 39 lower-case letters, digits and single inner . _ -, "
    "got 'UPPER'",
    "name without tag": "operations[0].name: expected 'owner/model@latest', got 'owner/model'",
    "bad cid": "operations[0].cid: expected version 1, got 7",
    "unknown kind": "operations[0].record: kind: expected one of model, dataset, code, evaluation, got 'poem'",
    "record version": "operations[0].record: v: expected 1, got 2",
    "negative size": "operations[0].record.size: expected 0..9223372036854775807, got -1",
    "media type": "operations[0].record: media_type: expected lower-case type/subtype, got 'text'",
    "licence": "operations[0].licence: ends where a licence identifier is expected",
    "extra field": "operations[0].record: missing [], unknown ['extra']",
    "wrong chain": "chain_hash: expected {chain}, got " + "00" * 32,
    "unknown account": "public_key: {stranger} has no key on file, so its transaction must show it",
    "no key on file": "public_key: {stranger} has no key on file, so its transaction must show it",
    "another key than on file": "public_key: {alice} has another key on file",
    "key of another address": "public_key: expected that of {stranger}, got {bob}'s",
    "tampered signature": "signature: not made by the sender's ed25519 key",
    "another's signature": "signature: not made by the sender's ed25519 key",
    "expired": "expires_ms: 1700000000000 isn't after the chain's time 1700000000000",
    "replayed": "nonce: expected 1, got 0, already used",
    "nonce gap": "nonce: expected 0, got 2, ahead of its turn",
    "fee too low": "fee: expected at least 15, got 14",
    "fee unpaid": "fee: 1000001 is more than the balance of 1000000",
    "poor": "operations[0].transfer: 1000001 is more than the balance of 1000000",
    "overflow": "operations[0].{bob}: 1 more than 18446744073709551615 is above 18446744073709551615",
    "no faucet": "operations[0].faucet: this chain has none",
    "faucet limit": "operations[0].faucet: expected at most 1000 an operation, got 1001",
    "not the owner": "operations[0].bob/other@latest: 'bob' is held by {bob}, not by {alice}",
    "reserved": "operations[0].'mpisa' is reserved",
    "like an address": "operations[0].'0xabc' is reserved",
    "no handles": "operations[0].'a': {alice} holds 0 of 0 handles",
    "handle fee unpaid": "operations[0].claiming 'a': 2000000 is more than the balance of 1000000",
    "name not set": "operations[0].a/m@latest: it isn't set, so it can't be removed",
    "supersedes nothing": "operations[0].supersedes: {alice} has no record of {never}",
    "proof for another nonce": "operations[0].rotate-key: the proof isn't the new key's signature for this transaction",
    "rotation to the same key": "operations[0].rotate-key: the new key is the one on file",
}


def expected_detail(case, chain):
    return DETAILS[case.name].format(
        chain=chain.chain_hash.hex(),
        alice=format_address(chain.alice.address),
        bob=format_address(chain.bob.address),
        stranger=format_address(chain.stranger.address),
        never=NEVER_PUBLISHED,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_execution_gives_a_receipt_with_the_reason(case, make_chain):
    chain = make_chain(**(case.parameters or {}))
    raw = case.build(chain)
    before = dict(chain.state)
    alice = chain.account(chain.alice)
    receipt = chain.execute(raw).receipts[0]
    used = case.gate == "operations"
    authentic = case.gate in ("admission", "operations")
    tx_hash = transaction_hash(raw[1:-66]) if authentic else raw_hash(raw)
    detail = expected_detail(case, chain)
    assert receipt == Receipt(tx_hash, ReceiptStatus.REJECTED, case.reason, detail, nonce_used=used)
    if used:
        assert chain.account(chain.alice) == replace(alice, nonce=alice.nonce + 1)
        assert {key for key in chain.state if chain.state[key] != before.get(key)} <= set(before)
        assert len([key for key in before if before[key] != chain.state[key]]) == 1
    else:
        assert chain.state == before


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_submission_refuses_with_the_same_reason(case, make_chain):
    chain = make_chain(**(case.parameters or {}))
    raw = case.build(chain)
    before = dict(chain.state)
    with pytest.raises(Rejection) as refusal:
        chain.submit(raw)
    assert str(refusal.value) == f"{case.reason.value}: {expected_detail(case, chain)}"
    assert chain.state == before


@pytest.mark.parametrize(("pending", "nonce", "expected"), [(3, 3, None), (3, 2, R.REPLAYED), (3, 4, R.NONCE_GAP)])
def test_submission_counts_what_the_sender_has_waiting(chain, pending, nonce, expected):
    raw = chain.sign(chain.alice, transfer(chain), nonce=nonce).raw
    if expected is None:
        assert chain.submit(raw, pending).transaction.nonce == nonce
        return
    with pytest.raises(Rejection) as refusal:
        chain.submit(raw, pending)
    assert refusal.value.reason == expected


def test_submission_behind_waiting_transactions_leaves_the_operations_to_execution(chain):
    raw = chain.sign(chain.alice, transfer(chain, 2_000_000), nonce=1).raw
    assert isinstance(chain.submit(raw, 1), SignedTransaction)


def test_submission_ignores_a_pending_nonce_behind_the_account(chain):
    in_use(chain)
    raw = chain.sign(chain.alice, transfer(chain)).raw
    assert chain.submit(raw, 0).transaction.nonce == 1


def test_submission_takes_what_execution_applies(chain):
    raw = chain.sign(chain.alice, transfer(chain)).raw
    assert chain.submit(raw).raw == raw
    assert chain.execute(raw).receipts[0].status is ReceiptStatus.APPLIED


def test_every_key_kind_is_refused_for_a_false_signature(chain, make_key):
    for kind in KeyKind:
        key = make_key(f"new {kind}", kind)
        good = chain.sign(key, transfer(chain), public_key=key.public_key)
        receipt = chain.execute(replace(good, signature=bytes(len(good.signature))).raw).receipts[0]
        assert (receipt.reason, receipt.detail) == (
            R.BAD_SIGNATURE,
            f"signature: not made by the sender's {kind.value} key",
        )
