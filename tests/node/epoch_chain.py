"""Headers of two epochs, and who certifies them with real keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mpisa.node.epoch_record import EpochRecord
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.header import Certificate, Header, make_certificate, sign_header
from mpisa.primitives.identifiers import Epoch, Height
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.validator_record import ValidatorRecord
from tests.node.cluster import validator_keys

CLOSING_HEIGHT = 10


class Quartet:
    """Who validates an epoch: four of them, ascending by address."""

    def __init__(self, first: int) -> None:
        found = []
        for number in range(first, first + 4):
            keys = validator_keys(number)
            assert keys.consensus is not None
            assert keys.certificate is not None
            address, vertex_key = keys.certificate.public_key.address, keys.consensus.public_key.data
            found.append((ValidatorRecord(f"node{number}", address, 1, vertex_key, f"peer{number}"), keys.certificate))
        found.sort(key=lambda item: item[0].address)
        self.records = tuple(record for record, _ in found)
        self.keys: tuple[PrivateKey, ...] = tuple(key for _, key in found)

    def certify(self, header: Header, signers: Sequence[int] = (0, 1, 2)) -> Certificate:
        return make_certificate({index: sign_header(self.keys[index], header) for index in signers})

    def record(self, epoch: int, base: int) -> EpochRecord:
        return EpochRecord(Epoch(epoch), Height(base), b"", self.records)


OLD, NEW, STRANGERS = Quartet(1), Quartet(11), Quartet(21)
FIRST, SECOND = OLD.record(0, 0), NEW.record(1, CLOSING_HEIGHT)

GENESIS = Header(
    bytes([7]) * 32, Height(0), 1_000, Epoch(0), 0, 0, *[ZERO_DIGEST] * 5, bytes([9]) * 32,
    FIRST.validator_set.hash, ZERO_DIGEST,
)  # fmt: skip
CLOSING = replace(
    GENESIS,
    height=Height(CLOSING_HEIGHT),
    time_ms=2_000,
    first_commit=19,
    last_commit=20,
    previous=bytes([8]) * 32,
    state_root=bytes([6]) * 32,
    next_validators_hash=SECOND.validator_set.hash,
)


def header_at(height: int, epoch: int = 1) -> Header:
    """One that closes nothing."""
    validators = (FIRST, SECOND)[epoch].validator_set.hash
    return replace(
        CLOSING, height=Height(height), epoch=Epoch(epoch), validators_hash=validators, next_validators_hash=ZERO_DIGEST
    )
