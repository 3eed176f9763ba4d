"""Where an epoch begins: behind the header that closed the one before (docs/protocol.md, section 16).

Everything follows from that header and the next committee: indices, heights, digest and time go on from it, rounds
begin again, and its hash anchors the genesis vertices and the leader schedule. The first epoch begins behind genesis.
"""

from dataclasses import dataclass
from typing import Final

from consensus.dag.committee import Committee
from consensus.order.checkpoint import Checkpoint
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.header import Header, header_hash
from mpisa.primitives.identifiers import Epoch, Height

GENESIS_HEIGHT: Final = Height(0)


@dataclass(frozen=True, slots=True)
class EpochStart:
    """An epoch, its committee, and what came before: the anchor is the hash of the header before it."""

    epoch: Epoch
    committee: Committee
    anchor: bytes
    time_ms: int
    height: Height = GENESIS_HEIGHT
    index: int = 0
    digest: bytes = ZERO_DIGEST

    @property
    def checkpoint(self) -> Checkpoint:
        """The state before the epoch's first commit."""
        return Checkpoint(
            self.epoch,
            self.index,
            (),
            0,
            self.time_ms,
            self.digest,
            ZERO_DIGEST,
            self.height,
            self.index,
            self.time_ms,
        )


def start_behind(header: Header, committee: Committee) -> EpochStart:
    """The epoch that begins behind a closing header, or behind the genesis header."""
    is_genesis = header.height == 0
    named = header.validators_hash if is_genesis else header.next_validators_hash
    assert committee.validator_set.hash == named, "the committee is the one that the header names"
    return EpochStart(
        Epoch(header.epoch if is_genesis else header.epoch + 1),
        committee,
        header_hash(header),
        header.time_ms,
        header.height,
        header.last_commit,
        header.commit_digest,
    )


def open_epochs(head: Header, base: int, certified: int) -> tuple[Epoch, ...]:
    """Which epochs a node has open whose last executed header is `head`: the served one first, the current one last.

    `base` is the height of the header before the first one of head's epoch, `certified` the highest certified height.
    """
    if head.closes_epoch and certified >= head.height:
        return head.epoch, Epoch(head.epoch + 1)
    if head.epoch > 0 and certified <= base:
        return Epoch(head.epoch - 1), head.epoch
    return (head.epoch,)
