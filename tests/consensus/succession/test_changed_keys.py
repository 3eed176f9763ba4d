"""Keys that change within an epoch: what the former ones signed isn't known to be signed by the new ones."""

from consensus.dag.vertex import encode_vertex
from consensus.events import Broadcast, ProposalRecord, StoredEpoch
from consensus.parameters import Parameters
from consensus.succession import Succession
from mpisa.primitives.identifiers import Round
from tests.consensus.forge import NOW, Forge, of_kind
from tests.consensus.succession.town import identity
from tests.simulator.world import CHAIN_HASH

PARAMETERS = Parameters(idle_delay_ms=0, first_proposal_delay_ms=0)


def test_another_authoritys_proposal_sits_the_epoch_out() -> None:
    forge = Forge()
    first = forge.vertex(1, 0)
    stored = StoredEpoch(vertices=[first], proposal=ProposalRecord(Round(1), encode_vertex(first)))
    seats = {seat: identity(seat).seat_in(forge.committee) for seat in range(4)}
    own = next(seat for seat, held in seats.items() if held is not None and held.index == 0)
    other = next(seat for seat, held in seats.items() if held is not None and held.index == 2)
    same = Succession(PARAMETERS, CHAIN_HASH, identity(own), [(forge.start, stored)])
    assert of_kind(same.start(NOW), Broadcast) == [Broadcast(encode_vertex(first))]
    assert same.sitting_out is None
    changed = Succession(PARAMETERS, CHAIN_HASH, identity(other), [(forge.start, stored)])
    assert of_kind(changed.start(NOW), Broadcast) == []
    assert changed.sitting_out == "the last proposal kept is authority 0's, the keys held now are authority 2's"
