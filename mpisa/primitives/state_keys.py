"""The keys of the state map, which the ledger writes under and anyone who checks a proof builds again.

A key is a space tag, a zero byte, and fields that are of fixed width or carry their length (one byte) in front: two
different things never share a key. Tags hold no zero byte.
"""

from enum import StrEnum
from typing import Final

from mpisa.primitives.cid import Cid
from mpisa.primitives.digest import sha256
from mpisa.primitives.identifiers import ADDRESS_BYTES, ArtefactName

ACCOUNT_SPACE: Final = b"account\0"
AGENDA_SPACE: Final = b"agenda\0"
CLAIM_SPACE: Final = b"claim\0"
CLOSED_SPACE: Final = b"closed\0"
EPOCH_SPACE: Final = b"epoch\0"
NAME_SPACE: Final = b"name\0"
OFFENCE_SPACE: Final = b"offence\0"
OWNER_SPACE: Final = b"owner\0"
PARAMETERS_SPACE: Final = b"parameters\0"
RECORD_SPACE: Final = b"record\0"
REGISTRATION_SPACE: Final = b"registration\0"
REGISTRATIONS_SPACE: Final = b"registrations\0"
VALIDATOR_SPACE: Final = b"validator\0"
VALIDATORS_SPACE: Final = b"validators\0"

MAX_FIELD_BYTES: Final = 255


class Claim(StrEnum):
    """What one operator at a time may have of a kind."""

    CERTIFICATE = "certificate"
    CONSENSUS = "consensus"
    NAME = "name"
    PEER = "peer"
    POST_QUANTUM = "post-quantum"


def account_key(address: bytes) -> bytes:
    """Where an account stands: its key, nonce and balance."""
    return ACCOUNT_SPACE + _address(address)


def record_key(cid: Cid, publisher: bytes) -> bytes:
    """Where a publisher's provenance record of an artefact stands."""
    return record_prefix(cid) + _address(publisher)


def record_prefix(cid: Cid) -> bytes:
    """What the keys of all publishers' records of an artefact start with."""
    return RECORD_SPACE + _field(cid.to_bytes())


def name_key(name: ArtefactName) -> bytes:
    """Where the CID that a name stands for is kept."""
    return NAME_SPACE + b"".join([_field(part.encode("ascii")) for part in (name.owner, name.model, name.tag)])


def owner_key(owner: str) -> bytes:
    """Where the account that holds an owner handle is kept."""
    return OWNER_SPACE + _field(owner.encode("ascii"))


def parameters_key() -> bytes:
    """Where the protocol's parameters are kept: written by the genesis, so that no state is empty."""
    return PARAMETERS_SPACE


def validator_key(address: bytes) -> bytes:
    """Where the record of a validator of this epoch is kept."""
    return VALIDATOR_SPACE + _address(address)


def validators_key() -> bytes:
    """Where the list of the addresses of this epoch's validators is kept, ascending."""
    return VALIDATORS_SPACE


def epoch_key() -> bytes:
    """Where the entry about the epoch itself is kept."""
    return EPOCH_SPACE


def registration_key(operator: bytes) -> bytes:
    """Where an operator's validator to be and its stake are kept."""
    return REGISTRATION_SPACE + _address(operator)


def registrations_key() -> bytes:
    """Where the list of the operators that have a validator is kept, ascending."""
    return REGISTRATIONS_SPACE


def claim_key(claim: Claim, value: bytes) -> bytes:
    """Where the operator that has this key, name or peer id is kept."""
    return CLAIM_SPACE + _field(claim.value.encode("ascii")) + sha256(value)


def agenda_key(number: int) -> bytes:
    """Where entry `number` of the agenda is kept."""
    return AGENDA_SPACE + number.to_bytes(8, "big")


def closed_key(epoch: int) -> bytes:
    """Where the time at which an epoch closed is kept, while its offences count."""
    return CLOSED_SPACE + epoch.to_bytes(8, "big")


def offence_key(operator: bytes, epoch: int, punishable: bool) -> bytes:
    """Where it is kept that an operator's validator was punished (or jailed) for what it did in an epoch."""
    return OFFENCE_SPACE + _address(operator) + epoch.to_bytes(8, "big") + bytes((punishable,))


def _address(address: bytes) -> bytes:
    if len(address) != ADDRESS_BYTES:
        raise ValueError(f"expected an address of {ADDRESS_BYTES} bytes, got {len(address)}")
    return bytes(address)


def _field(data: bytes) -> bytes:
    if len(data) > MAX_FIELD_BYTES:
        raise ValueError(f"expected at most {MAX_FIELD_BYTES} bytes, got {len(data)}")
    return bytes((len(data),)) + data
