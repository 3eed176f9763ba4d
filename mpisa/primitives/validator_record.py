"""One validator, as the genesis document names it and as the state keeps it for the set of an epoch.

`address` is that of its secp256k1 certificate key and orders the set; its Ed25519 consensus key signs vertices. The
operator is the account that controls it: its stake comes from there and returns there.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

from mpisa.primitives import codec
from mpisa.primitives.genesis_fields import (
    bad_genesis,
    check_int,
    check_text,
    read_address,
    read_hex,
    read_object,
)
from mpisa.primitives.identifiers import ADDRESS_BYTES, Address, format_address
from mpisa.primitives.keys import ML_DSA_65_KEY_BYTES

MAX_VALIDATOR_NAME_LENGTH: Final = 64
MAX_PEER_ID_LENGTH: Final = 128
MAX_PROOF_BYTES: Final = 4_096
MAX_RECORD_BYTES: Final = 8_192
# 256 validators of this power have less than 2^64 together: a total can't overflow.
MAX_POWER: Final = (1 << 56) - 1
CONSENSUS_KEY_BYTES: Final = 32
_OWN_ACCOUNT: Final = Address(b"")


@dataclass(frozen=True, slots=True)
class ValidatorRecord:
    """A validator. Without an `operator` it is the account of the certificate key itself, whose address that is.

    `post_quantum_key` is its ML-DSA-65 key (1,952 bytes) for co-signatures, or empty. `proof` is its proof of
    possession; a validator of the genesis, which is trusted whole, has none.
    """

    name: str
    address: Address
    power: int
    consensus_key: bytes
    peer_id: str
    proof: bytes = b""
    operator: Address = _OWN_ACCOUNT
    post_quantum_key: bytes = b""

    def __post_init__(self) -> None:
        if not self.operator:
            object.__setattr__(self, "operator", self.address)

    def validate(self, where: str) -> None:
        """Raise Rejection(BAD_GENESIS) unless every field is in bounds."""
        check_text(self.name, f"{where}.name", MAX_VALIDATOR_NAME_LENGTH)
        check_int(self.power, f"{where}.power", 1, MAX_POWER)
        check_text(self.peer_id, f"{where}.peer_id", MAX_PEER_ID_LENGTH)
        for name, data, low, high in (
            ("address", self.address, ADDRESS_BYTES, ADDRESS_BYTES),
            ("consensus_key", self.consensus_key, CONSENSUS_KEY_BYTES, CONSENSUS_KEY_BYTES),
            ("proof", self.proof, 0, MAX_PROOF_BYTES),
            ("operator", self.operator, ADDRESS_BYTES, ADDRESS_BYTES),
        ):
            if not low <= len(data) <= high:
                raise bad_genesis(f"{where}.{name}: expected {low} to {high} bytes, got {len(data)}")
        if len(self.post_quantum_key) not in (0, ML_DSA_65_KEY_BYTES):
            raise bad_genesis(
                f"{where}.post_quantum_key: expected none or {ML_DSA_65_KEY_BYTES} bytes, "
                f"got {len(self.post_quantum_key)}"
            )

    def to_value(self) -> codec.Value:
        """The record as a codec value, its address included."""
        return (
            self.name,
            self.address,
            self.power,
            self.consensus_key,
            self.peer_id,
            self.proof,
            self.operator,
            self.post_quantum_key,
        )

    @classmethod
    def from_value(cls, value: codec.Value) -> ValidatorRecord:
        """The inverse of to_value; raises Rejection."""
        name, address, power, consensus_key, peer_id, proof, operator, post_quantum_key = codec.expect_tuple(
            value, "validator", length=8
        )
        record = cls(
            name=codec.expect_str(name, "validator.name"),
            address=Address(codec.expect_bytes(address, "validator.address", length=ADDRESS_BYTES)),
            power=codec.expect_int(power, "validator.power"),
            consensus_key=codec.expect_bytes(consensus_key, "validator.consensus_key"),
            peer_id=codec.expect_str(peer_id, "validator.peer_id"),
            proof=codec.expect_bytes(proof, "validator.proof"),
            operator=Address(codec.expect_bytes(operator, "validator.operator", length=ADDRESS_BYTES)),
            post_quantum_key=codec.expect_bytes(post_quantum_key, "validator.post_quantum_key"),
        )
        record.validate("validator")
        return record

    def encode(self) -> bytes:
        """The state value under validator_key(address)."""
        return codec.encode(self.to_value())

    @classmethod
    def decode(cls, data: bytes) -> ValidatorRecord:
        """The inverse of encode; raises Rejection."""
        return cls.from_value(codec.decode(data, max_bytes=MAX_RECORD_BYTES))

    def to_document(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "name": self.name,
            "address": format_address(self.address),
            "power": self.power,
            "consensus_key": self.consensus_key.hex(),
            "peer_id": self.peer_id,
            "proof": self.proof.hex(),
            "operator": format_address(self.operator),
            "post_quantum_key": self.post_quantum_key.hex(),
        }

    @classmethod
    def from_document(cls, document: Any, where: str) -> ValidatorRecord:
        """The inverse of to_document; raises Rejection(BAD_GENESIS)."""
        items = read_object(document, where, [field.name for field in fields(cls)])
        return cls(
            name=check_text(items["name"], f"{where}.name", MAX_VALIDATOR_NAME_LENGTH),
            address=read_address(items["address"], f"{where}.address"),
            power=check_int(items["power"], f"{where}.power", 1, MAX_POWER),
            consensus_key=read_hex(items["consensus_key"], f"{where}.consensus_key"),
            peer_id=check_text(items["peer_id"], f"{where}.peer_id", MAX_PEER_ID_LENGTH),
            proof=read_hex(items["proof"], f"{where}.proof"),
            operator=read_address(items["operator"], f"{where}.operator"),
            post_quantum_key=read_hex(items["post_quantum_key"], f"{where}.post_quantum_key"),
        )
