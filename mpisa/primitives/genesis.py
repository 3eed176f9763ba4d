"""The genesis document: chain id, time, parameters, validators and first balances, trusted out of band.

It has one text. Its hash is the sha256 of that text, so that `sha256sum genesis.json` shows it; the chain hash binds
the chain id to it. A text spelled otherwise is refused rather than hashed differently.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, TypeAlias

from mpisa.primitives import codec, digest
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.genesis_fields import (
    bad_genesis,
    check_ascending,
    check_count,
    check_distinct,
    check_int,
    check_text,
    read_address,
    read_hex,
    read_list,
    read_object,
)
from mpisa.primitives.header import Validator, ValidatorSet
from mpisa.primitives.identifiers import (
    Address,
    format_address,
    validate_chain_id,
    validate_owner,
)
from mpisa.primitives.keys import PublicKey
from mpisa.primitives.staking_parameters import MAX_STAKE, StakingParameters
from mpisa.primitives.validator_record import ValidatorRecord

MAX_GENESIS_BYTES: Final = 4 << 20
MAX_VALIDATORS: Final = 256
MAX_GENESIS_ACCOUNTS: Final = 10_000
MAX_RESERVED_HANDLES: Final = 1_000
MAX_CONSENSUS_PARAMETERS: Final = 64
MAX_PARAMETERS_BYTES: Final = 65_536
MAX_HANDLES_PER_ACCOUNT: Final = 65_535
MAX_NAME_LENGTH: Final = 64
MAX_U64: Final = (1 << 64) - 1
GENESIS_VERSION: Final = 1
REMOVED_PARAMETERS: Final = {"evidence_epochs": "evidence is admissible as long as stake answers: staking.unbonding_ms"}
"""Consensus parameters that earlier versions knew, and what says the same now."""

_DEFAULT_STAKING: Final = StakingParameters()

Document: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ChainParameters:
    """The chain's rules that are numbers; amounts in the smallest unit.

    `faucet_limit` is the most one faucet operation may create, 0 means no faucet. A transaction burns at least
    `minimum_fee` + `operation_fee` an operation. Claiming an owner handle burns `handle_fee`; an account holds at most
    `handles_per_account`; `reserved_handles` (ascending) are nobody's. `consensus` are named integers, ascending by
    name, that the ledger keeps and doesn't interpret. `staking` are those about stake and epochs.
    """

    faucet_limit: int = 0
    minimum_fee: int = 0
    operation_fee: int = 0
    handle_fee: int = 0
    handles_per_account: int = 16
    reserved_handles: tuple[str, ...] = ()
    consensus: tuple[tuple[str, int], ...] = ()
    staking: StakingParameters = _DEFAULT_STAKING

    def validate(self) -> None:
        """Raise Rejection(BAD_GENESIS) unless all is in bounds and in order."""
        for name in ("faucet_limit", "minimum_fee", "operation_fee", "handle_fee"):
            check_int(getattr(self, name), f"parameters.{name}", 0, MAX_U64)
        check_int(self.handles_per_account, "parameters.handles_per_account", 0, MAX_HANDLES_PER_ACCOUNT)
        check_count(len(self.reserved_handles), "parameters.reserved_handles", 0, MAX_RESERVED_HANDLES)
        for handle in self.reserved_handles:
            validate_owner(handle)
        check_ascending(self.reserved_handles, "parameters.reserved_handles")
        check_count(len(self.consensus), "parameters.consensus", 0, MAX_CONSENSUS_PARAMETERS)
        for name, number in self.consensus:
            check_text(name, "parameters.consensus", MAX_NAME_LENGTH)
            if name in REMOVED_PARAMETERS:
                raise Rejection(
                    RejectionReason.BAD_GENESIS,
                    f"genesis: parameters.consensus.{name} is no parameter any more: {REMOVED_PARAMETERS[name]}",
                    hint="run this chain with the version of mpisa it was made for; a devnet is made anew by `mpisa "
                    "devnet reset`, then `mpisa devnet up`",
                )
            check_int(number, f"parameters.consensus.{name}", 0, MAX_U64)
        check_ascending([name for name, _ in self.consensus], "parameters.consensus")
        self.staking.validate()

    def encode(self) -> bytes:
        """The state value under parameters_key()."""
        return codec.encode(
            (
                self.faucet_limit,
                self.minimum_fee,
                self.operation_fee,
                self.handle_fee,
                self.handles_per_account,
                self.reserved_handles,
                self.consensus,
                self.staking.to_value(),
            )
        )

    @classmethod
    def decode(cls, data: bytes) -> ChainParameters:
        """The inverse of encode; raises Rejection."""
        value = codec.expect_tuple(codec.decode(data, max_bytes=MAX_PARAMETERS_BYTES), "parameters", length=8)
        faucet_limit, minimum_fee, operation_fee, handle_fee, handles_per_account = (
            codec.expect_int(item, f"parameters[{place}]") for place, item in enumerate(value[:5])
        )
        handles = codec.expect_tuple(value[5], "parameters.reserved_handles", MAX_RESERVED_HANDLES)
        pairs = codec.expect_tuple(value[6], "parameters.consensus", MAX_CONSENSUS_PARAMETERS)
        parameters = cls(
            faucet_limit,
            minimum_fee,
            operation_fee,
            handle_fee,
            handles_per_account,
            reserved_handles=tuple(codec.expect_str(item, "parameters.reserved_handles") for item in handles),
            consensus=tuple(_read_pair(item) for item in pairs),
            staking=StakingParameters.from_value(value[7]),
        )
        parameters.validate()
        return parameters

    def to_document(self) -> Document:
        """The JSON form."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        return plain | {
            "reserved_handles": list(self.reserved_handles),
            "consensus": dict(self.consensus),
            "staking": self.staking.to_document(),
        }

    @classmethod
    def from_document(cls, document: Any) -> ChainParameters:
        """The inverse of to_document; raises Rejection(BAD_GENESIS)."""
        items = read_object(document, "parameters", [field.name for field in fields(cls)])
        handles = read_list(items["reserved_handles"], "parameters.reserved_handles", MAX_RESERVED_HANDLES)
        consensus = items["consensus"]
        if not isinstance(consensus, Mapping):
            raise bad_genesis(f"parameters.consensus: expected an object, got {type(consensus).__name__}")
        return cls(
            faucet_limit=check_int(items["faucet_limit"], "parameters.faucet_limit", 0, MAX_U64),
            minimum_fee=check_int(items["minimum_fee"], "parameters.minimum_fee", 0, MAX_U64),
            operation_fee=check_int(items["operation_fee"], "parameters.operation_fee", 0, MAX_U64),
            handle_fee=check_int(items["handle_fee"], "parameters.handle_fee", 0, MAX_U64),
            handles_per_account=check_int(
                items["handles_per_account"], "parameters.handles_per_account", 0, MAX_HANDLES_PER_ACCOUNT
            ),
            reserved_handles=tuple(
                check_text(item, "parameters.reserved_handles", MAX_NAME_LENGTH) for item in handles
            ),
            consensus=tuple(sorted(consensus.items())),
            staking=StakingParameters.from_document(items["staking"]),
        )


@dataclass(frozen=True, slots=True)
class GenesisAccount:
    """A balance at height 0; with `public_key` the account need not show its key in its first transaction."""

    address: Address
    balance: int
    public_key: PublicKey | None = None

    def validate(self, where: str) -> None:
        """Raise Rejection(BAD_GENESIS) unless balance and address are in bounds and the key is that of the address."""
        check_int(self.balance, f"{where}.balance", 0, MAX_U64)
        if len(self.address) != 20:
            raise bad_genesis(f"{where}.address: expected 20 bytes, got {len(self.address)}")
        if self.public_key is not None and self.public_key.address != self.address:
            raise bad_genesis(f"{where}.public_key: its address is {format_address(self.public_key.address)}")

    def to_document(self) -> Document:
        """The JSON form."""
        return {
            "address": format_address(self.address),
            "balance": self.balance,
            "public_key": None if self.public_key is None else self.public_key.encode().hex(),
        }

    @classmethod
    def from_document(cls, document: Any, where: str) -> GenesisAccount:
        """The inverse of to_document; raises Rejection(BAD_GENESIS)."""
        items = read_object(document, where, [field.name for field in fields(cls)])
        key = items["public_key"]
        return cls(
            address=read_address(items["address"], f"{where}.address"),
            balance=check_int(items["balance"], f"{where}.balance", 0, MAX_U64),
            public_key=None if key is None else PublicKey.decode(read_hex(key, f"{where}.public_key")),
        )


@dataclass(frozen=True, slots=True)
class Genesis:
    """The whole document. Validators and accounts are ascending by address, each address once; at least 1 validator."""

    chain_id: str
    time_ms: int
    parameters: ChainParameters
    validators: tuple[ValidatorRecord, ...]
    accounts: tuple[GenesisAccount, ...] = ()

    @property
    def hash(self) -> bytes:
        """sha256 of the document's text: 32 bytes."""
        return digest.sha256(self.to_json().encode())

    @property
    def chain_hash(self) -> bytes:
        """The identity of the chain that starts here: 32 bytes."""
        return digest.chain_hash(self.chain_id, self.hash)

    @property
    def validator_set(self) -> ValidatorSet:
        """The set that certifies the first epoch."""
        return ValidatorSet(tuple(Validator(item.address, item.power) for item in self.validators))

    def validate(self) -> None:
        """Raise Rejection unless the document is whole, bounded and in order."""
        validate_chain_id(self.chain_id)
        check_int(self.time_ms, "time_ms", 0, MAX_U64)
        self.parameters.validate()
        check_count(len(self.validators), "validators", 1, MAX_VALIDATORS)
        check_count(len(self.accounts), "accounts", 0, MAX_GENESIS_ACCOUNTS)
        for place, validator in enumerate(self.validators):
            validator.validate(f"validators[{place}]")
        for place, account in enumerate(self.accounts):
            account.validate(f"accounts[{place}]")
        check_ascending([item.address for item in self.validators], "validators")
        check_ascending([item.address for item in self.accounts], "accounts")
        check_distinct([item.name for item in self.validators], "validators.name")
        check_distinct([item.consensus_key for item in self.validators], "validators.consensus_key")
        check_distinct([item.peer_id for item in self.validators], "validators.peer_id")
        check_distinct([item.operator for item in self.validators], "validators.operator")
        keys = [item.post_quantum_key for item in self.validators if item.post_quantum_key]
        check_distinct(keys, "validators.post_quantum_key")
        check_int(sum(item.power for item in self.validators), "total power", 1, MAX_U64)
        staking = self.parameters.staking
        for place, validator in enumerate(self.validators):
            stake = validator.power * staking.power_unit
            check_int(stake, f"validators[{place}]: the stake of its power", staking.minimum_stake, MAX_STAKE)

    def to_document(self) -> Document:
        """The JSON form."""
        return {
            "version": GENESIS_VERSION,
            "chain_id": self.chain_id,
            "time_ms": self.time_ms,
            "parameters": self.parameters.to_document(),
            "validators": [item.to_document() for item in self.validators],
            "accounts": [item.to_document() for item in self.accounts],
        }

    @classmethod
    def from_document(cls, document: Any) -> Genesis:
        """The inverse of to_document; raises Rejection."""
        names = ("version", "chain_id", "time_ms", "parameters", "validators", "accounts")
        items = read_object(document, "genesis", names)
        if type(items["version"]) is not int or items["version"] != GENESIS_VERSION:
            raise bad_genesis(f"version: expected {GENESIS_VERSION}, got {items['version']!r:.20}")
        validators = read_list(items["validators"], "validators", MAX_VALIDATORS)
        accounts = read_list(items["accounts"], "accounts", MAX_GENESIS_ACCOUNTS)
        genesis = cls(
            chain_id=check_text(items["chain_id"], "chain_id", MAX_NAME_LENGTH),
            time_ms=check_int(items["time_ms"], "time_ms", 0, MAX_U64),
            parameters=ChainParameters.from_document(items["parameters"]),
            validators=tuple(
                ValidatorRecord.from_document(item, f"validators[{place}]") for place, item in enumerate(validators)
            ),
            accounts=tuple(
                GenesisAccount.from_document(item, f"accounts[{place}]") for place, item in enumerate(accounts)
            ),
        )
        genesis.validate()
        return genesis

    def to_json(self) -> str:
        """The document's one text: keys in order, two spaces, ASCII, a final newline."""
        return json.dumps(self.to_document(), indent=2, sort_keys=True, ensure_ascii=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Genesis:
        """The inverse of to_json; raises Rejection for any other text."""
        if len(text) > MAX_GENESIS_BYTES:
            raise bad_genesis(f"expected at most {MAX_GENESIS_BYTES} characters, got {len(text)}")
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise bad_genesis(f"not JSON: {error}") from None
        genesis = cls.from_document(document)
        if genesis.to_json() != text:
            raise Rejection(
                RejectionReason.NOT_CANONICAL,
                "genesis: the text isn't the document's one spelling (sorted keys, two spaces, ASCII, final newline)",
                hint="a genesis file that was edited or formatted is another chain's: fetch the original",
            )
        return genesis


def _read_pair(value: codec.Value) -> tuple[str, int]:
    name, number = codec.expect_tuple(value, "parameters.consensus", length=2)
    return codec.expect_str(name, "parameters.consensus"), codec.expect_int(number, "parameters.consensus")
