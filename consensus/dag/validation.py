"""When a vertex is valid, as far as its own bytes tell (docs/protocol.md, section 3).

Everything here depends on bytes and the committee alone: never on a clock, never on what else this node holds. A
shell runs it in a worker thread, since it costs a signature check; what needs the DAG, the engine does.
"""

from collections.abc import Mapping
from itertools import pairwise

from consensus.dag.committee import Committee
from consensus.dag.evidence import MAX_STRAYS, EvidenceKind
from consensus.dag.judging import Jurisdiction, check_origin, check_signature, jurisdiction_of, verify_evidence
from consensus.dag.vertex import FIRST_EPOCH, Vertex, VertexHeader, decode_vertex
from consensus.parameters import Parameters
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Epoch


def verify_vertex(
    raw: bytes, committee: Committee, chain_hash: bytes, parameters: Parameters, epoch: Epoch = FIRST_EPOCH
) -> Vertex:
    """The vertex of these bytes, valid but for its ancestors, in an epoch in which no evidence of earlier ones is
    admissible.

    Raises Rejection: TOO_LARGE, MALFORMED, TOO_DEEP, NOT_CANONICAL, OUT_OF_RANGE, BAD_PAYLOAD, BAD_EVIDENCE,
    WRONG_CHAIN, WRONG_EPOCH, UNKNOWN_AUTHORITY, BAD_PARENTS, BAD_SIGNATURE, and for evidence what `verify_evidence`
    raises.
    """
    vertex = decode_vertex(raw, parameters)
    _verify(vertex, jurisdiction_of(committee, chain_hash, epoch), parameters)
    return vertex


def verify_in_epochs(raw: bytes, jurisdictions: Mapping[Epoch, Jurisdiction], parameters: Parameters) -> Vertex:
    """As `verify_vertex`, of whichever of these epochs it says. Raises Rejection(WRONG_EPOCH) for any other."""
    vertex = decode_vertex(raw, parameters)
    epoch = vertex.header.epoch
    jurisdiction = jurisdictions.get(epoch)
    if jurisdiction is None:
        known = " or ".join(str(item) for item in sorted(jurisdictions))
        raise Rejection(RejectionReason.WRONG_EPOCH, f"vertex: expected epoch {known}, got {epoch}")
    _verify(vertex, jurisdiction, parameters)
    return vertex


def _verify(vertex: Vertex, jurisdiction: Jurisdiction, parameters: Parameters) -> None:
    committee = jurisdiction.committee
    check_origin(vertex.header, committee, jurisdiction.chain_hash, jurisdiction.epoch, "vertex")
    validate_parents(vertex.header, committee)
    _validate_signatures(vertex.header)
    check_signature(vertex.id, vertex.signature, vertex.header, committee)
    strays = 0
    for item in vertex.evidence:
        strays += verify_evidence(item, jurisdiction, parameters).kind is EvidenceKind.STRAY_HEADER
        if strays > MAX_STRAYS:  # each costs a certificate's check
            raise Rejection(RejectionReason.BAD_EVIDENCE, f"expected at most {MAX_STRAYS} stray header a vertex")


def validate_parents(header: VertexHeader, committee: Committee) -> None:
    """Own vertex first, one parent an author, lower rounds, a quorum just below. Raises Rejection(BAD_PARENTS)."""
    if not header.parents or header.parents[0].author != header.author:
        raise _bad_parents(f"parents[0]: expected author {header.author}'s own previous vertex")
    authors: set[int] = set()
    stake = 0
    for position, ref in enumerate(header.parents):
        if not committee.is_member(ref.author):
            raise _bad_parents(f"parents[{position}]: expected an author below {len(committee)}, got {ref.author}")
        if ref.author in authors:
            raise _bad_parents(f"parents[{position}]: author {ref.author} already is among the parents")
        if ref.round >= header.round:
            raise _bad_parents(f"parents[{position}]: expected a round below {header.round}, got {ref.round}")
        authors.add(ref.author)
        if ref.round == header.round - 1:
            stake += committee.powers[ref.author]
    if not committee.is_quorum(stake):
        raise _bad_parents(f"stake {stake} of {committee.total} at round {header.round - 1} is no quorum")


def _validate_signatures(header: VertexHeader) -> None:
    """Execution signatures ascend by height, one a height: one encoding. Whose they are, the certifier checks."""
    heights = [item.height for item in header.execution_signatures]
    if any(later <= earlier for earlier, later in pairwise(heights)):
        raise Rejection(
            RejectionReason.MALFORMED, "header.execution_signatures: expected ascending heights without repeats"
        )


def _bad_parents(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_PARENTS, detail)
