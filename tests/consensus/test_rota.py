"""Who leads when: what a commit's slot says about those before it, changes at commits, the far past not counted."""

from dataclasses import replace

from consensus.dag.vertex import VertexRef
from consensus.order.checkpoint import Checkpoint, decode_cursor, encode_cursor, window_root
from consensus.order.committer import Slot
from consensus.order.conduct import Record
from consensus.order.leader import RoundRobin
from consensus.order.rota import Rota
from consensus.parameters import Parameters
from mpisa.primitives.identifiers import AuthorityIndex, Round
from tests.consensus.forge import Forge
from tests.simulator.world import ANCHOR, CHAIN_HASH, committee_of

PARAMETERS = Parameters(suspension_skips=2, suspension_commits=5, gc_depth=20)
COMMITTEE = committee_of((1, 1, 1, 1))[0]
START = Forge().start.checkpoint


def rota(checkpoint: Checkpoint = START) -> Rota:
    return Rota(PARAMETERS, COMMITTEE, CHAIN_HASH, ANCHOR, checkpoint)


def commit(line: Rota, before: Checkpoint, slot: Slot) -> Checkpoint:
    """The checkpoint behind the commit of a slot, as the linearizer makes it."""
    author = line.schedule.leaders(slot.round)[slot.number]
    last, conduct = line.commit(before, slot)
    leader = VertexRef(Round(slot.round), AuthorityIndex(author), bytes([slot.round, slot.number]) * 16)
    return replace(
        before, index=before.index + 1, leaders=before.keep_leaders(leader), slot=last.number, conduct=conduct
    )


def test_slots_between_two_commits_were_skipped() -> None:
    line = rota()
    first = commit(line, START, Slot(1, 1))  # (1, 0) is authority 1's
    assert first.conduct == (Record(1, 2, 0),)
    second = commit(line, first, Slot(2, 1))  # (2, 0) is authority 2's
    assert second.conduct == (Record(1, 2, 0), Record(2, 2, 0))
    assert commit(line, second, Slot(3, 0)).conduct == second.conduct, "nothing between (2, 1) and (3, 0)"


def test_a_change_voids_the_rest_of_the_round_and_rearranges_those_above() -> None:
    line = rota()
    first = commit(line, START, Slot(1, 1))
    assert line.suspended == frozenset()
    at = commit(line, first, Slot(5, 0))  # skips of rounds 2 to 4, authority 3 has three of them
    assert line.suspended == {3}
    assert at.slot == 1, "(5, 1) is settled too"
    turns = RoundRobin(4, 2)
    for number in range(6, 40):
        row = line.schedule.leaders(number)
        assert 3 not in row
        assert all(new == old for old, new in zip(turns.leaders(number), row, strict=True) if old != 3)
    for number in range(6, 11):
        assert line.suspended == {3}
        at = commit(line, at, Slot(number, 0))
    assert at.index == 7
    assert 3 not in line.suspended, "suspended behind commit 2, back behind commit 7"


def test_a_cursor_leads_to_the_same_rota() -> None:
    line = rota()
    at = START
    slots = [Slot(1, 1), Slot(5, 0), Slot(6, 1), Slot(7, 0), Slot(9, 1), Slot(13, 0), Slot(14, 0), Slot(18, 1)]
    for position, slot in enumerate(slots):
        assert line.slot_of(slot.round, line.schedule.leaders(slot.round)[slot.number]) == slot
        at = commit(line, at, slot)
        again = rota(decode_cursor(encode_cursor(at)))
        assert again.suspended == line.suspended
        rest, other = at, at
        for later in slots[position + 1 :]:
            rest = commit(again, rest, later)
        ahead = rota(other)
        for later in slots[position + 1 :]:
            other = commit(ahead, other, later)
        assert (rest, again.suspended) == (other, ahead.suspended)


def test_the_window_root_tells_conduct_apart() -> None:
    at = commit(rota(), START, Slot(1, 1))
    assert window_root(at, [b"b", b"a"]) == window_root(at, [b"a", b"b"])
    roots = {
        window_root(replace(at, conduct=conduct), ())
        for conduct in ((), at.conduct, (Record(1, 2, 1),), (Record(2, 2, 0),), (Record(1, 3, 0),))
    }
    assert len(roots) == 5


def test_a_commit_far_above_the_last_counts_the_last_rounds_only() -> None:
    """A stranger's range may name any round: what it costs to follow is bounded."""
    at = commit(rota(), START, Slot(1, 0))
    far = 1 << 50
    line = rota(at)
    last, conduct = line.commit(at, Slot(far, 0))
    assert last.round == far
    assert all(record.points <= 4 for record in conduct)


def test_who_has_which_slot() -> None:
    assert rota().slot_of(5, 2) == Slot(5, 1)
    assert rota().slot_of(5, 3) is None
