"""Execution signatures, the own and the others', and what becomes of them (docs/protocol.md, sections 8 and 11).

Each is counted towards a certificate and looked at as a possible offence. The own ones travel in the next vertex, and
are pushed where none is due soon.
"""

from consensus.dag.vertex import ExecutionSignature
from consensus.events import BroadcastSignature, CertificateReceived, Certified, Effect, Executed
from consensus.order.certifier import Certified as CertifiedHeight
from consensus.order.certifier import Certifier
from consensus.order.epoch import EpochStart
from consensus.order.witness import Witness
from consensus.parameters import Parameters
from consensus.proposer import Proposer
from mpisa.primitives.identifiers import AuthorityIndex


class Notary:
    """The certifier and the witness of one epoch; `effects` are those of the engine that owns it."""

    __slots__ = ("_epoch", "_own", "certifier", "witness")

    def __init__(
        self, parameters: Parameters, chain_hash: bytes, start: EpochStart, own: AuthorityIndex | None, height: int
    ) -> None:
        window = parameters.certifier_window
        self._epoch = start.epoch
        self._own = own
        self.certifier = Certifier(start.committee, chain_hash, window, height, start.height)
        self.witness = Witness(start.committee, chain_hash, window, start.height, height)

    def sign(
        self, effects: list[Effect], event: Executed, proposer: Proposer | None, *, push: bool
    ) -> ExecutionSignature | None:
        """Let the next vertex carry the own signature over an executed header, if there is one; `push` it too where no
        vertex is due soon.
        """
        if self._own is None or not event.signature:
            return None
        own = ExecutionSignature(event.height, event.header_hash, self._own, event.signature)
        if push or proposer is None:
            effects.append(BroadcastSignature(own, self._epoch))
        if proposer is not None:
            proposer.carry_signature(own)
        return own

    def executed(self, effects: list[Effect], event: Executed, own: ExecutionSignature | None) -> None:
        """This node executed a height."""
        self._certified(effects, self.certifier.executed(event.height, event.header_hash, own))

    def observe(self, effects: list[Effect], signature: ExecutionSignature) -> None:
        """A signature came in from its own authority."""
        if signature.authority != self._own:
            self.witness.observe(signature)
            self._certified(effects, self.certifier.observe(signature))

    def received(self, effects: list[Effect], event: CertificateReceived) -> None:
        """A whole certificate came in."""
        self._certified(effects, self.certifier.received(event.height, event.certificate))

    def _certified(self, effects: list[Effect], certified: CertifiedHeight | None) -> None:
        if certified is not None:
            self.witness.certified(certified.height, certified.header_hash, certified.certificate)
            effects.append(Certified(certified.height, certified.header_hash, certified.certificate))
