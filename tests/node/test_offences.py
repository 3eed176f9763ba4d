"""What the ledger is told of evidence that was ordered."""

from consensus.dag.evidence import EvidenceKind, double_header, double_vertex
from mpisa.ledger.offences import Offence, OffenceKind
from mpisa.node.offences import offences_of
from mpisa.primitives.digest import sha256
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height
from tests.consensus.evidence.acts import COURT, FORGE, OLD, PARAMETERS, signed


def test_each_piece_is_an_offence_of_its_epoch_in_the_order_of_the_vertices() -> None:
    twins = [FORGE.vertex(9, 2, [FORGE.genesis[2]], payload=mark, epoch=7, keep=False) for mark in (b"a", b"b")]
    vertices = double_vertex(twins[0], twins[1])
    headers = double_header(AuthorityIndex(4), Height(40), signed(4, 40, 1, OLD), signed(4, 40, 2, OLD))
    carrier = FORGE.vertex(1, 0, evidence=(headers,), epoch=7, keep=False)
    other = FORGE.vertex(1, 1, evidence=(vertices,), epoch=7, keep=False)
    assert offences_of((carrier, FORGE.vertex(1, 3, epoch=7, keep=False), other), COURT, PARAMETERS) == (
        Offence(OffenceKind.DOUBLE_HEADER, OLD.committee[4].address, Epoch(5), 40, sha256(headers)),
        Offence(OffenceKind.DOUBLE_VERTEX, FORGE.committee[2].address, Epoch(7), 9, sha256(vertices)),
    )


def test_consensus_and_ledger_mean_the_same_kinds() -> None:
    assert [kind.value for kind in EvidenceKind] == [kind.value for kind in OffenceKind]
