"""One fault at a time, and what it may cost at most."""

from consensus.parameters import Parameters
from tests.simulator.calm import BUSY, calm
from tests.simulator.invariants import check_progress, check_safety, check_settled
from tests.simulator.scenario import Crash, Cut, Jump, LinkFaults, Loss, partition
from tests.simulator.scenarios import FAST
from tests.simulator.world import World

HEAL_MS = 1_800
SPLIT = LinkFaults(heal_ms=HEAL_MS, max_delay_ms=10)


def rounds(world: World) -> int:
    engine = world.nodes[0].engine
    assert engine is not None
    return engine.status().round


def test_in_calm_everything_is_certified_by_all() -> None:
    world = calm()
    check_settled(world, 2_000)
    check_safety(world)
    assert world.submitted > 50
    assert len(world.acknowledged) == world.submitted
    for node in world.nodes:
        assert sorted(node.certified) == list(range(1, len(node.disk.blocks) + 1))


def test_a_silent_authority_of_four_costs_no_timeouts_once_suspected() -> None:
    full, one_silent = calm(parameters=BUSY), calm(parameters=BUSY, silent=frozenset({2}))
    check_safety(one_silent)
    assert rounds(one_silent) >= 0.7 * rounds(full)
    assert one_silent.nodes[0].engine is not None
    assert one_silent.nodes[0].engine.status().suspects == (2,)


def test_an_idle_network_sends_almost_nothing() -> None:
    world = calm(clients=0, heal_ms=1_500)
    before = world.messages
    world.advance(15_000)
    # Thirteen seconds: about ten rounds of twelve vertices, and the heartbeat block with its signatures.
    assert world.messages - before < 400
    assert all(len(node.disk.blocks) >= 1 for node in world.nodes), "the heartbeat closes a block"
    assert all(len(node.certified) == len(node.disk.blocks) for node in world.nodes)


def test_a_transaction_on_an_idle_network_is_certified_fast() -> None:
    world = calm(clients=1, pause_ms=10_000, heal_ms=2_000)
    assert world.submitted == 1
    before = [len(node.certified) for node in world.nodes]
    world.clients[0].next()
    world.advance(2_400)
    assert [len(node.certified) for node in world.nodes] > before
    assert len(world.acknowledged) == 2


def test_a_partition_stops_commits_and_its_end_resumes_them() -> None:
    cuts = partition(frozenset({0, 1}), 4, 500, HEAL_MS)
    world = calm(5, parameters=FAST, faults=SPLIT, cuts=cuts, heal_ms=1_000)
    counts = [len(node.commits) for node in world.nodes]
    world.advance(HEAL_MS)
    assert max(len(node.commits) for node in world.nodes) <= max(counts) + 4, "no quorum, no commits"
    assert check_progress(world, 5, 2_000) <= 6
    check_safety(world)


def test_a_node_that_hears_nobody_stops_nobody() -> None:
    """One direction is cut: the node speaks and hears nothing."""
    deaf = Cut(frozenset({0, 1, 3}), frozenset({2}), 300, HEAL_MS)
    world = calm(6, parameters=BUSY, faults=SPLIT, cuts=(deaf,), heal_ms=HEAL_MS)
    counts = [len(node.commits) for node in world.nodes]
    assert counts[2] <= 6
    assert min(counts[0], counts[1], counts[3]) > 20
    check_progress(world, 5, 2_000)
    check_safety(world)


def test_a_node_that_nobody_hears_stops_nobody() -> None:
    mute = Cut(frozenset({2}), frozenset({0, 1, 3}), 300, HEAL_MS)
    world = calm(7, parameters=BUSY, faults=SPLIT, cuts=(mute,), heal_ms=HEAL_MS)
    assert min(len(node.commits) for node in world.nodes) > 20, "it hears the others, and follows"
    check_progress(world, 5, 2_000)
    check_safety(world)


def test_a_node_that_was_down_for_long_catches_up_by_ranges() -> None:
    parameters = Parameters(idle_delay_ms=0, range_rounds=32, gc_depth=20, far_behind_rounds=10)
    world = calm(2, parameters=parameters, crashes=(Crash(3, 400, 4_000, 0),), heal_ms=4_300)
    assert world.nodes[3].engine is None
    check_progress(world, 5, 5_000)
    check_safety(world)
    assert world.nodes[3].starts == 2


def test_a_lost_disk_sits_out_and_signs_nothing_twice() -> None:
    crash = Crash(3, 1_000, 300, 0, Loss.DISK)
    world = calm(parameters=BUSY, crashes=(crash,), heal_ms=3_000)
    engine = world.nodes[3].engine
    assert engine is not None
    assert engine.status().sitting_out is not None
    check_progress(world, 5, 5_000)
    check_safety(world)


def test_a_lost_disk_sits_out_even_where_nothing_moves() -> None:
    """An idle network makes a round a second: nobody speaks before the node would have made its first vertex."""
    crash = Crash(3, 4_000, 20, 0, Loss.DISK)
    world = calm(clients=0, crashes=(crash,), heal_ms=8_500)
    check_safety(world)
    engine = world.nodes[3].engine
    assert engine is not None
    assert engine.status().sitting_out is not None


def test_a_lost_disk_signs_nothing_before_a_quorum_has_answered() -> None:
    crashes = (Crash(3, 3_600, 600, 0, Loss.DISK), Crash(2, 3_500, 3_000, 0), Crash(1, 3_500, 3_000, 0))
    world = calm(clients=0, crashes=crashes, heal_ms=6_400)
    engine = world.nodes[3].engine
    assert engine is not None
    assert engine.status().round == 0
    assert engine.status().sitting_out is not None, "node 0 has told it"
    world.advance(9_000)
    check_progress(world, 2, 5_000)
    check_safety(world)


def test_skewed_and_jumping_clocks_only_delay() -> None:
    jumps = (Jump(1, 700, -300), Jump(2, 900, 500), Jump(1, 1_500, 400))
    world = calm(skews_ms=(0, 400, -300, 0), jumps=jumps, parameters=FAST)
    check_progress(world, 10, 5_000)
    check_safety(world)


def test_unequal_stake_stays_live_with_its_small_authorities_silent() -> None:
    world = calm(powers=(1, 4, 4, 1, 4, 4), silent=frozenset({0, 3}), parameters=BUSY)
    check_progress(world, 20, 5_000)
    check_safety(world)


def test_a_crash_at_every_early_effect_never_signs_twice() -> None:
    """The crash strikes between any two effects: before, inside and behind every Persist, Broadcast and Commit."""
    for effects in range(40):
        crash = Crash(0, 300, 150, effects)
        world = calm(effects, parameters=BUSY, crashes=(crash,), heal_ms=700)
        check_safety(world)
        check_progress(world, 4, 3_000)
        check_settled(world, 3_000)
        check_safety(world)
