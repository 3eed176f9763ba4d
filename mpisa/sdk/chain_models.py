"""The chain's part of `models`: blocks, headers, proofs, transactions, accounts. See there for the conventions."""

from typing import Any

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """The base of every answer: immutable, hashable by value where its fields are, convertible to plain data."""

    def to_dict(self) -> dict[str, Any]:
        """The answer as plain JSON-ready data, nested answers included."""
        built: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))  # to_builtins would leave tuples
        return built


class ChainHead(Model, frozen=True, kw_only=True):
    """The newest certified chain block; `certified` is False for genesis alone, `ordered_height` how far the DAG is."""

    chain_id: str
    height: int
    hash: str
    state_root: str
    epoch: int
    time_ms: int
    ordered_height: int
    certified: bool


class Receipt(Model, frozen=True, kw_only=True):
    """The outcome of one transaction: `status` is applied or rejected, `reason` the rejection's kebab-case name.

    `nonce_used` marks a final outcome: the nonce is spent, and this transaction can never take effect again.
    """

    tx: str
    status: str
    reason: str | None = None
    detail: str = ""
    nonce_used: bool = False
    fee: int = 0


class Transaction(Model, frozen=True, kw_only=True):
    """Where a transaction is. `status`: accepted, ordered, certified or rejected."""

    hash: str
    status: str
    height: int | None = None
    index: int | None = None
    receipt: Receipt | None = None
    raw: str | None = None


class ChainBlock(Model, frozen=True, kw_only=True):
    """One chain block: its header in fields and as its 340 bytes, certificate (hex, None until certified), outcomes."""

    height: int
    hash: str
    time_ms: int
    epoch: int
    first_commit: int
    last_commit: int
    previous: str
    commit_digest: str
    window_root: str
    tx_root: str
    receipts_root: str
    state_root: str
    validators_hash: str
    next_validators_hash: str
    header: str
    certified: bool
    certificate: str | None = None
    transactions: tuple[str, ...] = ()
    receipts: tuple[Receipt, ...] = ()


class SignedHeader(Model, frozen=True, kw_only=True):
    """A header and the certificate over it, both hex; genesis carries no certificate."""

    height: int
    header: str
    certificate: str | None = None


class HeaderPage(Model, frozen=True, kw_only=True):
    """Headers in ascending order, the validator set that certified them (hex records), and where to go on."""

    headers: tuple[SignedHeader, ...]
    validators: str
    next: int | None = None


class ClosedEpoch(Model, frozen=True, kw_only=True):
    """An epoch's closing header with its certificate and the epoch's validator set (hex): it names the next set."""

    epoch: int
    height: int
    header: str
    certificate: str
    validators: str


class EpochPage(Model, frozen=True, kw_only=True):
    """Closing headers in ascending order of epoch, and the epoch where to go on."""

    epochs: tuple[ClosedEpoch, ...]
    next: int | None = None


class Cosignature(Model, frozen=True, kw_only=True):
    """A validator's ML-DSA-65 signature of a closing header (hex)."""

    address: str
    signature: str


class ProvenRecord(Model, frozen=True, kw_only=True):
    """A validator's record as a state entry, with its map proof under the closing header before its epoch (all hex)."""

    key: str
    value: str
    proof: str


class Cosignatures(Model, frozen=True, kw_only=True):
    """What this node holds of the co-signatures of an epoch's closing header, and the records that name their keys.

    There are no records for the first epoch: the genesis document has them.
    """

    epoch: int
    cosignatures: tuple[Cosignature, ...]
    records: tuple[ProvenRecord, ...] = ()


class CosignedEpoch(Model, frozen=True, kw_only=True):
    """How much of its validators' power co-signed an epoch's closing header."""

    epoch: int
    height: int
    power: int
    total_power: int


class Validator(Model, frozen=True, kw_only=True):
    address: str
    power: int
    name: str | None = None


class Validators(Model, frozen=True, kw_only=True):
    """The validator set in force at a height; `encoded` is its hashed form, `hash` its sha256."""

    height: int
    epoch: int
    total_power: int
    hash: str
    encoded: str
    validators: tuple[Validator, ...]


class Offence(Model, frozen=True, kw_only=True):
    """What a validator is convicted of: its address in that epoch; `position` is a round for double-vertex, else a
    height.
    """

    kind: str
    address: str
    epoch: int
    position: int


class Offences(Model, frozen=True, kw_only=True):
    """What was proved, and travels to the chain with a next vertex."""

    offences: tuple[Offence, ...]


class ValidatorStanding(Model, frozen=True, kw_only=True):
    """A validator as it stands: `power` in this epoch's set (0: not in it), `next_power` in the next one's.

    `change` is what the epoch's end does: none, joins, leaves or changes (its power, keys or peer id). `address` is the
    present one, `next_address` another that a change of keys brings. `waiting` is stake that leaves with the epoch;
    `jailed_until_ms`: from when on the operator may join again, None where it isn't jailed.
    """

    name: str
    operator: str
    address: str
    power: int
    next_power: int
    change: str
    bonded: int
    waiting: int
    consensus_key: str
    peer_id: str
    post_quantum_key: str | None = None
    next_address: str | None = None
    jailed_until_ms: int | None = None


class Staking(Model, frozen=True, kw_only=True):
    """The epoch in which the next chain block is made: `pending` says that something waits for its end, which no block
    before `closes_from_ms` brings. First the validators of its set in order, then those that are only registered.
    """

    height: int
    epoch: int
    opened_ms: int
    pending: bool
    closes_from_ms: int
    power_unit: int
    minimum_stake: int
    unbonding_ms: int
    validators: tuple[ValidatorStanding, ...]


class StakeReturn(Model, frozen=True, kw_only=True):
    """An amount on its way back to its operator."""

    amount: int
    due_ms: int


class Stake(Model, frozen=True, kw_only=True):
    """What an operator has at stake; `validator` is None where it runs none."""

    height: int
    operator: str
    bonded: int
    waiting: int
    returns: tuple[StakeReturn, ...]
    validator: ValidatorStanding | None = None


class GenesisDocument(Model, frozen=True, kw_only=True):
    """The genesis document word for word, with its hash; trust in it comes from elsewhere."""

    chain_id: str
    hash: str
    chain_hash: str
    document: str


class StateValue(Model, frozen=True, kw_only=True):
    """A state entry (hex); `value` is None where the key has none."""

    key: str
    height: int
    value: str | None = None


class ProofLeaf(Model, frozen=True, kw_only=True):
    path: str
    value_hash: str


class MapProof(Model, frozen=True, kw_only=True):
    """The way from the state root to a key: `bitmap` in 0x hex, hashes in hex, siblings from the root down."""

    depth: int
    bitmap: str
    siblings: tuple[str, ...]
    leaf: ProofLeaf | None = None


class StateProof(Model, frozen=True, kw_only=True):
    """A state entry with what a light client needs: header, certificate, validators (hex) and the map proof."""

    key: str
    height: int
    header: str
    validators: str
    proof: MapProof
    certificate: str | None = None
    value: str | None = None


class Account(Model, frozen=True, kw_only=True):
    """An account; `pending_nonce` is the next nonce to sign, counting transactions that still wait."""

    address: str
    exists: bool
    nonce: int
    pending_nonce: int
    balance: int
    public_key: str | None = None
    key_kind: str | None = None
