"""The witness: who signed headers that aren't the chain's (docs/protocol.md, section 8).

It sees every execution signature that comes pushed or inside a vertex. Two hashes of one height, signed by one
authority, are a double header; one that isn't the certified one is a stray header, once the certificate exists. In
normal times all hashes of a height are equal and not one signature is checked here. At most two hashes an authority and
height are kept, each checked once at most, and heights are bounded: a few below the last certified one, a window above.
"""

from dataclasses import dataclass
from typing import Final

from consensus.dag.committee import Committee
from consensus.dag.evidence import (
    EvidenceKind,
    Found,
    SignedHash,
    StrayHeader,
    Subject,
    double_header,
    encode_evidence,
)
from consensus.dag.vertex import ExecutionSignature
from mpisa.primitives.header import Certificate, certificate_digest, is_signed_by
from mpisa.primitives.identifiers import AuthorityIndex, Height

HEIGHTS_BELOW: Final = 64
HASHES_AN_AUTHORITY: Final = 2
_HEADER_KINDS: Final = (EvidenceKind.DOUBLE_HEADER, EvidenceKind.STRAY_HEADER)


@dataclass(slots=True)
class _Claim:
    signed: SignedHash
    is_good: bool | None = None


class Witness:
    """Heights of one epoch: `base` is that of the header before its first. `found` gathers what the engine reports."""

    __slots__ = ("_accused", "_base", "_certificates", "_certified", "_chain_hash", "_claims", "_committee", "_window",
                 "found")  # fmt: skip

    def __init__(self, committee: Committee, chain_hash: bytes, window: int, base: int, certified: int) -> None:
        self._committee = committee
        self._chain_hash = chain_hash
        self._window = window
        self._base = base
        self._certified = certified
        self._claims: dict[int, dict[AuthorityIndex, list[_Claim]]] = {}
        self._certificates: dict[int, tuple[bytes, Certificate]] = {}
        self._accused: set[tuple[EvidenceKind, AuthorityIndex]] = set()
        self.found: list[Found] = []

    def __len__(self) -> int:
        return len(self._claims)

    def accuse(self, subject: Subject) -> None:
        """A vertex carries this evidence: it isn't looked for again."""
        if subject.kind in _HEADER_KINDS and subject.position > self._base:
            self._accused.add((subject.kind, subject.author))

    def is_accused(self, subject: Subject) -> bool:
        """Whether a vertex carried evidence about a header of this kind against the author."""
        return (subject.kind, subject.author) in self._accused

    def observe(self, signature: ExecutionSignature) -> None:
        """A signature came in from its own authority."""
        height, author = signature.height, signature.authority
        if not self._low() < height <= self._certified + self._window:
            return
        claims = self._claims.setdefault(height, {}).setdefault(author, [])
        known = [claim.signed.header_hash for claim in claims]
        if signature.header_hash in known or len(known) >= HASHES_AN_AUTHORITY:
            return
        claims.append(_Claim(SignedHash(signature.header_hash, signature.signature)))
        self._judge(height, author, claims)

    def certified(self, height: Height, header_hash: bytes, certificate: Certificate) -> None:
        """A quorum signed the header at this height."""
        if height <= self._low():
            return
        self._certificates[height] = (header_hash, certificate)
        for author in sorted(self._claims.get(height, {})):
            self._judge(height, author, self._claims[height][author])
        self._certified = max(self._certified, height)
        for kept in (self._claims, self._certificates):
            for number in [number for number in kept if number <= self._low()]:
                del kept[number]

    def _judge(self, height: Height, author: AuthorityIndex, claims: list[_Claim]) -> None:
        """Whether what the authority signed at this height is an offence."""
        canonical, certificate = self._certificates.get(height, (None, None))
        signed = [claim for claim in claims if claim.signed.header_hash != canonical]
        if canonical is not None and certificate is not None and certificate.bitmap >> author & 1:
            of_certificate = certificate.signatures[certificate.signers().index(author)]
            signed.append(_Claim(SignedHash(canonical, of_certificate), is_good=True))
        elif len(signed) < len(claims):
            signed.append(next(claim for claim in claims if claim.signed.header_hash == canonical))
        if len(signed) > 1 and self._is_new(EvidenceKind.DOUBLE_HEADER, author):
            good = [claim.signed for claim in signed if self._is_good(height, author, claim)]
            if len(good) > 1:
                raw = double_header(author, height, good[0], good[1])
                self._find(EvidenceKind.DOUBLE_HEADER, author, height, raw)
                return
        if canonical is None or certificate is None or certificate.bitmap >> author & 1:
            return
        for claim in claims:
            is_stray = claim.signed.header_hash != canonical and self._is_new(EvidenceKind.STRAY_HEADER, author)
            if is_stray and self._is_good(height, author, claim):
                proof = StrayHeader(author, height, claim.signed, canonical, certificate)
                self._find(EvidenceKind.STRAY_HEADER, author, height, encode_evidence(proof))

    def _is_new(self, kind: EvidenceKind, author: AuthorityIndex) -> bool:
        """One piece an authority and kind is enough, and a double header says more than a stray one."""
        return not {(kind, author), (EvidenceKind.DOUBLE_HEADER, author)} & self._accused

    def _is_good(self, height: Height, author: AuthorityIndex, claim: _Claim) -> bool:
        if claim.is_good is None:
            digest = certificate_digest(self._chain_hash, height, claim.signed.header_hash)
            claim.is_good = is_signed_by(self._committee[author].address, digest, claim.signed.signature)
        return claim.is_good

    def _find(self, kind: EvidenceKind, author: AuthorityIndex, height: Height, raw: bytes) -> None:
        self._accused.add((kind, author))
        self.found.append(Found(Subject(kind, author, None, height), raw))

    def _low(self) -> int:
        return max(self._certified - HEIGHTS_BELOW, self._base)
