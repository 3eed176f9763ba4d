"""A small chain for the ledger's tests: three funded accounts, one of each key kind, on a state held in a dict."""

import hashlib
from collections.abc import Sequence

import pytest

from mpisa.ledger.offences import Offence
from mpisa.ledger.submission import validate_for_submission
from mpisa.ledger.transition import BlockContext, BlockResult, execute_block
from mpisa.primitives.account import Account, NameEntry, OwnerEntry
from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.genesis import ChainParameters, Genesis, GenesisAccount
from mpisa.primitives.genesis_state import genesis_state
from mpisa.primitives.identifiers import ArtefactName
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from mpisa.primitives.operations import Operation
from mpisa.primitives.record import ArtefactKind, ProvenanceRecord, StoredRecord
from mpisa.primitives.state_keys import account_key, name_key, owner_key, record_key
from mpisa.primitives.transaction import SignedTransaction, Transaction, sign_transaction
from mpisa.primitives.validator_record import ValidatorRecord

BALANCE = 1_000_000
START_MS = 1_700_000_000_000
EXPIRES_MS = START_MS + 60_000


def make_key(name: str, kind: KeyKind = KeyKind.ED25519) -> PrivateKey:
    return private_key(kind, hashlib.sha256(f"test key {name}".encode()).digest())


def certificate_key(number: int) -> PrivateKey:
    return make_key(f"validator {number}", KeyKind.SECP256K1)


def consensus_key(number: int) -> PrivateKey:
    return make_key(f"validator {number}")


def operator_key(number: int) -> PrivateKey:
    return make_key(f"operator {number}")


def make_validator(number: int, power: int = 10) -> ValidatorRecord:
    return ValidatorRecord(
        name=f"v{number}",
        address=certificate_key(number).address,
        power=power,
        consensus_key=consensus_key(number).public_key.data,
        peer_id=f"12D3KooWTest{number}",
        operator=operator_key(number).address,
    )


def make_genesis(parameters: ChainParameters, keys: list[PrivateKey], powers: tuple[int, ...]) -> Genesis:
    """Validators 1, 2, ... of these powers, and funded accounts."""
    validators = sorted(
        (make_validator(number, power) for number, power in enumerate(powers, start=1)), key=lambda v: v.address
    )
    accounts = sorted((GenesisAccount(key.address, BALANCE, key.public_key) for key in keys), key=lambda a: a.address)
    return Genesis("test-chain", START_MS - 1_000, parameters, tuple(validators), tuple(accounts))


class Chain:
    """Executes transactions on a dict and remembers every receipt."""

    def __init__(
        self, parameters: ChainParameters, powers: tuple[int, ...] = (10,), funded: Sequence[PrivateKey] = ()
    ) -> None:
        self.alice = make_key("alice")
        self.bob = make_key("bob", KeyKind.SECP256K1)
        self.carol = make_key("carol", KeyKind.ML_DSA_65)
        self.stranger = make_key("stranger")
        self.genesis = make_genesis(parameters, [self.alice, self.bob, self.carol, *funded], powers)
        self.state = genesis_state(self.genesis)
        self.chain_hash = self.genesis.chain_hash
        self.height = 1
        self.time_ms = START_MS
        self.epoch = 0

    @property
    def context(self) -> BlockContext:
        return BlockContext(self.chain_hash, self.height, self.time_ms, self.epoch)

    def transaction(self, key: PrivateKey, *operations: Operation, **changes: object) -> Transaction:
        account = self.account(key)
        fields: dict[str, object] = {
            "chain_hash": self.chain_hash,
            "sender": key.address,
            "nonce": 0 if account is None else account.nonce,
            "expires_ms": EXPIRES_MS,
            "operations": operations,
        } | changes
        return Transaction(**fields)  # type: ignore[arg-type]

    def sign(self, key: PrivateKey, *operations: Operation, **changes: object) -> SignedTransaction:
        return sign_transaction(self.transaction(key, *operations, **changes), key)

    def execute(self, *raws: bytes, offences: tuple[Offence, ...] = ()) -> BlockResult:
        """One chain block."""
        result = execute_block(self.state, raws, self.context, offences=offences)
        for key, value in result.changes:
            if value is None:
                del self.state[key]
            else:
                self.state[key] = value
        self.epoch += result.next_validators is not None
        self.height += 1
        self.time_ms += 10
        return result

    def run(self, key: PrivateKey, *operations: Operation, **changes: object):
        """Sign, execute alone in a block, and give the receipt."""
        return self.execute(self.sign(key, *operations, **changes).raw).receipts[0]

    def submit(self, raw: bytes, pending_nonce: int | None = None) -> SignedTransaction:
        return validate_for_submission(self.state, raw, self.context, pending_nonce=pending_nonce)

    def account(self, key: PrivateKey) -> Account | None:
        data = self.state.get(account_key(key.address))
        return None if data is None else Account.decode(key.address, data)

    def balance(self, key: PrivateKey) -> int:
        account = self.account(key)
        return 0 if account is None else account.balance

    def name(self, text: str) -> NameEntry | None:
        data = self.state.get(name_key(ArtefactName.parse(text)))
        return None if data is None else NameEntry.decode(data)

    def owner(self, handle: str) -> OwnerEntry | None:
        data = self.state.get(owner_key(handle))
        return None if data is None else OwnerEntry.decode(data)

    def record(self, cid: Cid, publisher: PrivateKey) -> StoredRecord | None:
        data = self.state.get(record_key(cid, publisher.address))
        return None if data is None else StoredRecord.decode(data)


def make_cid(text: str) -> Cid:
    return Cid.of(text.encode(), codec=DAG_PB)


def make_record(text: str, **changes: object) -> ProvenanceRecord:
    fields: dict[str, object] = {"kind": ArtefactKind.MODEL, "subject": make_cid(text), "size": 123} | changes
    return ProvenanceRecord(**fields)  # type: ignore[arg-type]


@pytest.fixture
def make_chain():
    """A function of chain parameters (as keywords) that starts a chain."""
    return lambda **parameters: Chain(ChainParameters(**({"faucet_limit": 1_000} | parameters)))


@pytest.fixture
def chain(make_chain):
    """A chain with a faucet of 1,000 an operation, without fees."""
    return make_chain()


@pytest.fixture(name="make_cid")
def make_cid_fixture():
    """The CID of a text."""
    return make_cid


@pytest.fixture(name="make_record")
def make_record_fixture():
    """A model record about a text, with changes."""
    return make_record


@pytest.fixture(name="make_key")
def make_key_fixture():
    """A key by name and kind."""
    return make_key
