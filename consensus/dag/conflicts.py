"""Evidence from certified headers that a stranger brings, such as a light client that saw two (docs/protocol.md,
section 8).

Two certificates over different headers of one height convict whoever signed both; a certified header above the height
that closed its epoch convicts all its signers. What comes out is ordinary evidence, each piece verified.
"""

from collections.abc import Iterable, Sequence
from itertools import combinations

from consensus.dag.evidence import AboveClosing, SignedHash, double_header, encode_evidence
from consensus.dag.judging import Era, Evidence, Jurisdiction, verify_evidence
from consensus.parameters import Parameters
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Certificate, Header
from mpisa.primitives.identifiers import AuthorityIndex


def evidence_in(
    headers: Sequence[tuple[Header, Certificate]], jurisdiction: Jurisdiction, parameters: Parameters
) -> list[Evidence]:
    """What these headers prove, one piece an authority and act.

    Raises Rejection(BAD_EVIDENCE) where they prove nothing, and what the first false signature does.
    """
    raws = [raw for header, certificate in headers for raw in _above_closing(header, certificate, jurisdiction)]
    for (one, first), (other, second) in combinations(headers, 2):
        if one.height == other.height and one.hash != other.hash:
            raws += _double_headers(one, first, other, second)
    if not raws:
        raise Rejection(
            RejectionReason.BAD_EVIDENCE, "nobody signed two of these headers, or one above its epoch's end"
        )
    return [verify_evidence(raw, jurisdiction, parameters) for raw in raws]


def _above_closing(header: Header, certificate: Certificate, jurisdiction: Jurisdiction) -> Iterable[bytes]:
    era: Era | None = jurisdiction.find_era(header.epoch)
    if era is None or era.last is None or header.height <= era.last:
        return
    for author, signature in zip(certificate.signers(), certificate.signatures, strict=True):
        yield encode_evidence(AboveClosing(AuthorityIndex(author), header, signature))


def _double_headers(one: Header, first: Certificate, other: Header, second: Certificate) -> Iterable[bytes]:
    by_author = dict(zip(second.signers(), second.signatures, strict=True))
    for author, signature in zip(first.signers(), first.signatures, strict=True):
        if author in by_author:
            yield double_header(
                AuthorityIndex(author),
                one.height,
                SignedHash(one.hash, signature),
                SignedHash(other.hash, by_author[author]),
            )
