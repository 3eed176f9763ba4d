"""Certificates: a quorum of authorities signed the header that they executed (docs/protocol.md, section 11).

Execution signatures come pushed and, so that none is lost, inside vertices. They are kept, one an authority and
height, until this node has executed the height itself, and verified then, once each, against its own header hash. A
signature over another hash is never counted. Heights are bounded by a window above the last certified one, and are
those of one epoch: `base` is the height of the header before its first.
"""

from dataclasses import dataclass, field

from consensus.dag.committee import Committee
from consensus.dag.vertex import ExecutionSignature
from mpisa.primitives.header import Certificate, certificate_digest, is_signed_by, make_certificate
from mpisa.primitives.identifiers import Height


@dataclass(slots=True)
class _Tally:
    """A height's signatures: unread ones by authority, verified ones by authority, and our own header hash."""

    header_hash: bytes | None = None
    unread: dict[int, ExecutionSignature] = field(default_factory=dict)
    verified: dict[int, bytes] = field(default_factory=dict)
    others: dict[int, bytes] = field(default_factory=dict)
    stake: int = 0


@dataclass(frozen=True, slots=True)
class Certified:
    """A height, its header hash, and a quorum's signatures."""

    height: Height
    header_hash: bytes
    certificate: Certificate


class Certifier:
    """Signatures of heights that aren't certified yet."""

    __slots__ = (
        "_base",
        "_chain_hash",
        "_committee",
        "_done",
        "_tallies",
        "_window",
        "certified_height",
        "executed_height",
    )

    def __init__(
        self, committee: Committee, chain_hash: bytes, window: int, certified_height: int, base: int = 0
    ) -> None:
        self._committee = committee
        self._chain_hash = chain_hash
        self._window = window
        self._base = base
        self._tallies: dict[int, _Tally] = {}
        self._done: dict[int, None] = {}
        self.certified_height = certified_height
        self.executed_height = certified_height

    def __len__(self) -> int:
        return len(self._tallies)

    def executed(self, height: Height, header_hash: bytes, own: ExecutionSignature | None) -> Certified | None:
        """This node executed a height: count its own signature and those that came before."""
        self.executed_height = max(self.executed_height, height)
        if height in self._done:
            return None
        tally = self._tallies.setdefault(height, _Tally())
        tally.header_hash = header_hash
        if own is not None:
            tally.unread.pop(own.authority, None)
            self._count(height, tally, own)
        waiting = sorted(tally.unread)
        for authority in waiting:
            self._judge(height, tally, tally.unread.pop(authority))
        return self._conclude(height, tally)

    def observe(self, signature: ExecutionSignature) -> Certified | None:
        """A signature came in from its own authority."""
        height = signature.height
        if height in self._done or not self._low() < height <= self._high():
            return None
        tally = self._tallies.setdefault(height, _Tally())
        known = (tally.unread, tally.verified, tally.others)
        if any(signature.authority in group for group in known):
            return None
        if tally.header_hash is None:
            tally.unread[signature.authority] = signature
            return None
        self._judge(height, tally, signature)
        return self._conclude(height, tally)

    def received(self, height: Height, certificate: Certificate) -> Certified | None:
        """A whole certificate, verified by whoever hands it in, of a height that this node executed."""
        tally = self._tallies.get(height)
        if height in self._done or tally is None or tally.header_hash is None:
            return None
        return self._finish(height, tally.header_hash, certificate)

    def diverging(self) -> tuple[tuple[int, int], ...]:
        """(height, authority) of uncertified heights where an authority named another header than ours."""
        return tuple(
            (height, authority)
            for height in sorted(self._tallies)
            for authority in sorted(self._tallies[height].others)
        )

    def _judge(self, height: int, tally: _Tally, signature: ExecutionSignature) -> None:
        if signature.header_hash != tally.header_hash:
            tally.others[signature.authority] = signature.header_hash
            return
        digest = certificate_digest(self._chain_hash, height, signature.header_hash)
        if is_signed_by(self._committee[signature.authority].address, digest, signature.signature):
            self._count(height, tally, signature)
        else:
            tally.others[signature.authority] = signature.header_hash

    def _count(self, height: int, tally: _Tally, signature: ExecutionSignature) -> None:
        if signature.authority not in tally.verified:
            tally.verified[signature.authority] = signature.signature
            tally.stake += self._committee.powers[signature.authority]

    def _conclude(self, height: int, tally: _Tally) -> Certified | None:
        if tally.header_hash is None or not self._committee.is_quorum(tally.stake):
            return None
        return self._finish(height, tally.header_hash, make_certificate(tally.verified))

    def _finish(self, height: int, header_hash: bytes, certificate: Certificate) -> Certified:
        del self._tallies[height]
        self._done[height] = None
        self.certified_height = max(self.certified_height, height)
        self._forget()
        return Certified(Height(height), header_hash, certificate)

    def _low(self) -> int:
        return max(self.certified_height - self._window, self._base)

    def _high(self) -> int:
        return max(self.certified_height, self.executed_height) + self._window

    def _forget(self) -> None:
        """Heights that fell out of the window won't be certified here: a later certificate vouches for them."""
        low = self._low()
        for height in [height for height in self._tallies if height <= low]:
            del self._tallies[height]
        for height in [height for height in self._done if height <= low]:
            del self._done[height]
