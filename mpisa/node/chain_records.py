"""What the chain store writes for a chain block, for genesis, and for a snapshot to go on from: keys and encodings.

h height -> header | H hash -> height | c height -> certificate | b height -> transactions | r height -> receipts | t
hash -> height, index, final | o height -> outline | d input CID, record key | e epoch -> its record | E epoch -> the
state entries that show its validators (epoch_proof) | q epoch and address -> co-signature | m cursor, genesis and the
like. Heights are 8 bytes, big-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from consensus.dag.vertex import FIRST_EPOCH
from mpisa.ledger.validators import read_validators
from mpisa.node.epoch_record import EpochRecord
from mpisa.primitives import codec
from mpisa.primitives.header import Certificate, Header, encode_header, header_hash
from mpisa.primitives.identifiers import Epoch, Height

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mpisa.node.database import Change
    from mpisa.primitives.receipt import Receipt
    from mpisa.primitives.validator_record import ValidatorRecord

STORE_VERSION = b"3"

HEADER, HASH, CERTIFICATE, BODY, RECEIPTS = b"h", b"H", b"c", b"b", b"r"
TRANSACTION, OUTLINE, DERIVED, META = b"t", b"o", b"d", b"m"
EPOCH, EPOCH_ENTRIES = b"e", b"E"
CURSOR, GENESIS, VERSION = META + b"cursor", META + b"genesis", META + b"version"
COMPLETE = META + b"complete"
"""The height up to which no certificate is missing, as of the last chain block."""
BASE = META + b"base"
"""The height whose state this store began with: 0, or a snapshot's."""
LOWEST = META + b"lowest"
"""The lowest height above genesis whose chain block is kept whole."""


@dataclass(frozen=True, slots=True)
class TransactionPlace:
    """Where a transaction was executed. `final`: its nonce was used, so no later outcome can replace this one."""

    height: int
    index: int
    final: bool

    def encode(self) -> bytes:
        """Height, index (u32), final."""
        return number(self.height) + self.index.to_bytes(4, "big") + (b"\1" if self.final else b"\0")

    @classmethod
    def decode(cls, raw: bytes) -> TransactionPlace:
        """From `encode`'s form."""
        return cls(int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:12], "big"), raw[12:] == b"\1")


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """Everything that one chain block changes. `links`: (input CID bytes, record key) pairs for the lineage index;
    `outline`: which vertices its commits ordered (consensus.order.ranges), for those who apply it without ordering;
    `next_validators`: the set that a closing block elects.
    """

    header: Header
    transactions: tuple[bytes, ...]
    receipts: tuple[Receipt, ...]
    changes: tuple[tuple[bytes, bytes | None], ...]
    links: tuple[tuple[bytes, bytes], ...]
    outline: bytes
    cursor: bytes
    next_validators: tuple[ValidatorRecord, ...] | None = None


def number(value: int) -> bytes:
    """A height or epoch in a key."""
    return value.to_bytes(8, "big")


def derived_prefix(cid: bytes) -> bytes:
    """Where the records that name a CID as an input are listed."""
    return DERIVED + len(cid).to_bytes(2, "big") + cid


def block_changes(block: ExecutedBlock, complete: int) -> list[Change]:
    """Everything of a chain block but its state and the places of its transactions."""
    header, height = block.header, number(block.header.height)
    batch: list[Change] = [(derived_prefix(cid) + key, b"") for cid, key in block.links]
    batch += [
        (HEADER + height, encode_header(header)),
        (HASH + header_hash(header), height),
        (BODY + height, codec.encode(block.transactions)),
        (RECEIPTS + height, codec.encode(tuple(receipt.encode_stored() for receipt in block.receipts))),
        (OUTLINE + height, block.outline),
        (CURSOR, block.cursor),
        (COMPLETE, number(complete)),
    ]
    if block.next_validators is not None:
        record = EpochRecord(Epoch(header.epoch + 1), header.height, block.cursor, block.next_validators)
        batch.append((EPOCH + number(record.epoch), record.encode()))
    return batch


def genesis_changes(genesis: Header, state: Mapping[bytes, bytes], genesis_hash: bytes) -> list[Change]:
    """What a store begins with, but for the state."""
    return [
        (HEADER + number(0), encode_header(genesis)),
        (HASH + header_hash(genesis), number(0)),
        (BODY + number(0), codec.encode(())),
        (RECEIPTS + number(0), codec.encode(())),
        (EPOCH + number(0), EpochRecord(FIRST_EPOCH, Height(0), b"", read_validators(dict(state))).encode()),
        (GENESIS, genesis_hash),
        (VERSION, STORE_VERSION),
    ]


def closing_changes(header: Header, certificate: Certificate, entries: bytes) -> list[Change]:
    """What is kept of the closing header of an epoch before a snapshot's: it, and what shows the next validators."""
    height = number(header.height)
    return [
        (HEADER + height, encode_header(header)),
        (HASH + header_hash(header), height),
        (CERTIFICATE + height, certificate.encode()),
        (EPOCH_ENTRIES + number(header.epoch + 1), entries),
    ]


def snapshot_changes(
    header: Header, certificate: Certificate, cursor: bytes, epochs: Iterable[EpochRecord]
) -> list[Change]:
    """What a store that goes on from a snapshot holds beside `genesis_changes` and the state: the certified header,
    the cursor to go on from, and the epochs up to the header's.
    """
    height = number(header.height)
    batch: list[Change] = [(EPOCH + number(record.epoch), record.encode()) for record in epochs]
    return [
        *batch,
        (HEADER + height, encode_header(header)),
        (HASH + header_hash(header), height),
        (CERTIFICATE + height, certificate.encode()),
        (CURSOR, cursor),
        (COMPLETE, height),
        (BASE, height),
        (LOWEST, number(header.height + 1)),
    ]
