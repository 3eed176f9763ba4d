"""What follows in the node from what the engine decided: waiters, the store of certificates, events, halts.

This is the `ordering.Ledger` of a running node; everything here returns at once. A certificate for another header
than the one this node executed means that this node is wrong or a quorum is: it halts, keeps serving what it has, and
says so, after a restart too.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from mpisa.network.ports import PeerId
from mpisa.node.views import EventKind
from mpisa.primitives import codec
from mpisa.primitives.errors import Halted
from mpisa.primitives.header import encode_header

if TYPE_CHECKING:
    from collections.abc import Callable

    from consensus.events import Certified, EpochDropped, EpochOpened, EvidenceFound, Halt, RequestCertificate
    from mpisa.node.certificates import CertificateKeeper
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.events import EventHub
    from mpisa.node.execution import Outcome
    from mpisa.node.forwarding import Forwarding
    from mpisa.node.halting import Halts
    from mpisa.node.submission import Submissions
    from mpisa.primitives.errors import DiskFull
    from mpisa.primitives.header import Header
    from mpisa.primitives.receipt import Receipt

log = structlog.get_logger(__name__)


class Reactions:
    """See the module."""

    def __init__(
        self,
        store: ChainStore,
        submissions: Submissions,
        events: EventHub,
        certificates: CertificateKeeper,
        on_executed: Callable[[Header], None],
        on_certified: Callable[[int], None],
        forwarding: Forwarding,
        halts: Halts,
    ) -> None:
        self._store = store
        self._submissions = submissions
        self._events = events
        self._certificates = certificates
        self._on_executed = on_executed
        self._on_certified = on_certified
        self._forwarding = forwarding
        self._halts = halts
        self.disk_error: str | None = None

    @property
    def halt_reason(self) -> str | None:
        """Why this node has halted, None while it goes on."""
        return self._halts.reason

    @property
    def halt_advice(self) -> str:
        """What its operator does about it."""
        return self._halts.advice

    def is_halted(self) -> bool:
        """Whether nothing is ordered, executed or signed any more."""
        return self._halts.record is not None

    def take_payload(self, round_number: int, max_bytes: int) -> bytes:
        return b"" if self.is_halted() else self._submissions.take_payload(round_number, max_bytes)

    def lapsed(self, payload: bytes) -> None:
        self._submissions.lapsed(payload)

    def executed(self, outcome: Outcome) -> None:
        """A chain block is durable."""
        block = outcome.block
        height, block_hash = block.header.height, outcome.event.header_hash.hex()
        self._submissions.executed(block)
        self._events.publish(
            EventKind.BLOCK,
            {
                "height": height,
                "hash": block_hash,
                "state_root": block.header.state_root.hex(),
                "time_ms": block.header.time_ms,
                "transactions": len(block.transactions),
            },
        )
        self._events.publish_all(EventKind.TRANSACTION, block.receipts, partial(_describe, height))
        log.debug("executed", height=height, hash=block_hash, transactions=len(block.transactions))
        self._certificates.executed()
        self._on_executed(block.header)

    def certified(self, event: Certified) -> None:
        """A quorum signed a header."""
        if event.header_hash != self._store.hash_at(event.height):
            self._halt(
                f"a quorum certified another header at height {event.height} than this node executed: "
                f"{event.header_hash.hex()} instead of {self._store.hash_at(event.height).hex()}",
                codec.encode(
                    (
                        encode_header(self._store.header(event.height)),
                        event.header_hash,
                        event.certificate.encode(),
                    )
                ),
            )
            return
        if self._store.add_certificate(event.height, event.certificate):
            self.certificate_added(event.height)

    def certificate_added(self, height: int) -> None:
        """A certificate is kept now, whoever made it."""
        self._submissions.certified(self._store.certified_height)
        self._on_certified(height)
        self._events.publish(EventKind.CERTIFIED, {"height": height, "hash": self._store.hash_at(height).hex()})
        self._certificates.look()
        log.debug("certified", height=height)

    def epoch_opened(self, event: EpochOpened) -> None:
        """This node takes part in an epoch, as an authority or as a follower."""
        log.info("epoch opened", epoch=event.epoch, authority=event.own, authorities=len(event.committee))
        if event.own is None:
            self._forwarding.hand_over()

    def epoch_dropped(self, event: EpochDropped) -> None:
        """An epoch is over for this node."""
        log.info("epoch over", epoch=event.epoch)

    def request_certificate(self, event: RequestCertificate) -> None:
        """The certificate that ends an epoch is missing."""
        peer = PeerId(self._store.epoch(event.epoch).validators[event.to].peer_id)
        self._certificates.request(peer, event.height)

    def taken_over(self) -> None:
        """Another succession orders from now on."""
        self._submissions.taken_over()

    def evidence(self, event: EvidenceFound) -> None:
        """An authority broke a rule in a way that can be proved."""
        log.error("evidence found", kind=event.kind, authority=event.author, position=event.position)

    def diverged(self, reason: str) -> None:
        """A certified chain block comes out otherwise here."""
        self._halt(reason)

    def halted(self, event: Halt) -> None:
        """A quorum assumption is broken."""
        self._halt(event.reason, event.evidence)

    def _halt(self, reason: str, evidence: bytes = b"") -> None:
        self._halts.note(reason, evidence)
        self.stay_halted()
        self._events.publish(EventKind.HALT, {"reason": reason})

    def stay_halted(self) -> None:
        """Takes nothing, and says so."""
        reason = self._halts.reason
        log.error("halted", reason=reason, next=self._halts.advice)
        self._submissions.stop_intake(
            Halted(
                f"the node has halted: {reason}",
                hint="nothing is lost: tell its operator, and send to another node (--endpoint)",
            )
        )

    def disk_full(self, error: DiskFull) -> None:
        """Nothing can be written: take nothing until something can."""
        if self.disk_error is None:
            log.error("disk full", error=str(error))
            self._events.publish(EventKind.HALT, {"reason": error.message})
            if not self.is_halted():
                self._submissions.stop_intake(error)
        self.disk_error = error.message

    def disk_has_space(self) -> None:
        """Writing works again."""
        self.disk_error = None
        log.info("the disk has space again")
        if not self.is_halted():
            self._submissions.open_intake()


def _describe(height: int, index: int, receipt: Receipt) -> dict[str, object]:
    return {
        "hash": receipt.tx_hash.hex(),
        "height": height,
        "index": index,
        "status": receipt.status.value,
        "reason": None if receipt.reason is None else receipt.reason.value,
    }
