"""Golden bytes of transactions, one a key kind and one an operation: other implementations read the same file.

`make_vectors` wrote tests/vectors/transactions.json. ML-DSA signs with fresh randomness: of its transaction the stored
signature is verified and everything else compared.
"""

import json
from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.digest import chain_hash, sha256
from mpisa.primitives.identifiers import Address, ArtefactName
from mpisa.primitives.keys import KeyKind, private_key
from mpisa.primitives.operations import Faucet, Publish, SetName, Transfer, rotate_key
from mpisa.primitives.record import ArtefactKind, ExternalReference, Input, ProvenanceRecord
from mpisa.primitives.transaction import SignedTransaction, Transaction, decode_transaction, sign_transaction
from mpisa.primitives.validator_operations import (
    NO_KEY,
    Bond,
    ChangeValidator,
    LeaveValidator,
    Unbond,
    ValidatorKeys,
    change_validator,
    join_validator,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "transactions.json"
CHAIN_HASH = chain_hash("vector-chain", sha256(b"genesis of the vectors"))
RECIPIENT = Address(bytes(range(20)))


def make_operations(sender: Address) -> dict[str, tuple]:
    record = ProvenanceRecord(
        ArtefactKind.MODEL,
        Cid.of(b"a model", codec=DAG_PB),
        123_456_789_012,
        "application/octet-stream",
        (
            Input("dataset", "train", cid=Cid.of(b"a dataset")),
            Input("base-model", "finetune", external=ExternalReference("huggingface", "org/base", "v1")),
        ),
        "Apache-2.0 OR MIT",
        Cid.of(b"an earlier model", codec=DAG_PB, version=0),
    )
    name = ArtefactName("owner", "model", "v1.0")
    rotation = rotate_key(private_key(KeyKind.SECP256K1, bytes([9]) * 32), CHAIN_HASH, sender, 3)
    keys = ValidatorKeys(private_key(KeyKind.ED25519, bytes([7]) * 32), private_key(KeyKind.SECP256K1, bytes([8]) * 32))
    return {
        "transfer": (Transfer(RECIPIENT, (1 << 64) - 1),),
        "faucet": (Faucet(RECIPIENT, 1),),
        "publish": (Publish(record),),
        "set-name": (SetName(name, record.subject),),
        "remove-name": (SetName(name, None),),
        "rotate-key": (rotation,),
        "join-validator": (join_validator(keys, CHAIN_HASH, sender, 3, name="v", peer_id="12D3KooWPeer", stake=1_000),),
        "leave-validator": (LeaveValidator(),),
        "bond": (Bond((1 << 64) - 1),),
        "unbond": (Unbond(1),),
        "change-validator": (change_validator(keys, CHAIN_HASH, sender, 3),),
        "change-validator-drop": (ChangeValidator(post_quantum=NO_KEY, peer_id="12D3KooWOther"),),
        "bundle": (Publish(record), SetName(name, record.subject), Transfer(RECIPIENT, 5)),
    }


def make_transactions() -> dict[str, SignedTransaction]:
    """The vectors' transactions, signed anew."""
    transactions = {}
    for number, kind in enumerate(KeyKind, start=1):
        key = private_key(kind, bytes([number]) * 32)
        for name, operations in make_operations(key.address).items():
            if name != "transfer" and kind is not KeyKind.ED25519:
                continue
            transaction = Transaction(
                CHAIN_HASH, key.address, 3, 1_700_000_000_000, operations, 42, key.public_key, "gr\u00fc\u00df"
            )
            transactions[f"{kind.value} {name}"] = sign_transaction(transaction, key)
    return transactions


def make_vectors() -> str:
    """The text of the vector file."""
    entries = [
        {
            "name": name,
            "fields": signed.transaction.to_json(),
            "body": signed.body.hex(),
            "hash": signed.hash.hex(),
            "signature": signed.signature.hex(),
            "raw": signed.raw.hex(),
        }
        for name, signed in make_transactions().items()
    ]
    about = "Signed MPISA transactions: raw = 92 | body | signature; hash = sha256('MPISA/transaction/1' 00 | body)"
    return json.dumps({"about": about, "transactions": entries}, indent=1) + "\n"


@pytest.fixture(scope="module")
def entries():
    return {entry["name"]: entry for entry in json.loads(VECTORS.read_text())["transactions"]}


@pytest.mark.parametrize("name", list(make_transactions()))
def test_transactions_have_their_golden_bytes(entries, name):
    entry = entries[name]
    signed = make_transactions()[name]
    assert signed.body.hex() == entry["body"]
    assert signed.hash.hex() == entry["hash"] == sha256(b"MPISA/transaction/1\0" + signed.body).hex()
    if not name.startswith(KeyKind.ML_DSA_65.value):
        assert signed.raw.hex() == entry["raw"]


@pytest.mark.parametrize("name", list(make_transactions()))
def test_golden_bytes_decode_to_their_transaction(entries, name):
    entry = entries[name]
    signed = decode_transaction(bytes.fromhex(entry["raw"]))
    assert signed.transaction == make_transactions()[name].transaction
    assert signed.transaction.to_json() == entry["fields"]
    assert (signed.body.hex(), signed.hash.hex(), signed.signature.hex()) == (
        entry["body"],
        entry["hash"],
        entry["signature"],
    )
    assert signed.raw.hex() == entry["raw"]
    assert signed.verify(signed.transaction.public_key)


def test_the_file_holds_these_transactions_and_no_others(entries):
    assert list(entries) == list(make_transactions())
