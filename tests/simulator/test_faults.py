"""One fault at a time, and what it may cost at most."""

import pytest

from consensus.parameters import Parameters
from tests.simulator.network import LinkFaults
from tests.simulator.scenarios import FAST, HEAL_MS
from tests.simulator.world import Scenario, World, check_liveness, check_safety, committed_tokens

CALM = LinkFaults(heal_ms=0, max_delay_ms=10)
BUSY = Parameters(idle_delay_ms=0)


def calm(seed: int = 1, **changes: object) -> World:
    values: dict[str, object] = {"seed": seed, "faults": CALM, "duration_ms": 3_000, "payloads_until_ms": 2_500}
    return World(Scenario(**(values | changes))).run()  # type: ignore[arg-type]


def test_in_calm_every_payload_is_certified_by_all() -> None:
    world = calm()
    check_safety(world)
    world.advance(4_000)
    for node in world.nodes:
        assert len(committed_tokens(node.commits)) == world.tokens
        assert sorted(node.certified) == list(range(1, len(node.disk.headers) + 1))


def test_a_silent_authority_of_four_costs_no_timeouts_once_suspected() -> None:
    full, one_silent = calm(parameters=BUSY), calm(parameters=BUSY, silent=frozenset({2}))
    check_safety(one_silent)
    rounds = [world.nodes[0].engine.status().round for world in (full, one_silent) if world.nodes[0].engine]
    assert rounds[1] >= 0.7 * rounds[0], f"{rounds} rounds"
    assert one_silent.nodes[0].engine is not None
    assert one_silent.nodes[0].engine.status().suspects == (2,)


def test_an_idle_network_sends_almost_nothing() -> None:
    world = calm(payloads_until_ms=0, duration_ms=1_500)
    before = world.messages
    world.advance(11_500)
    # Ten seconds: about ten rounds of twelve vertices, and the heartbeat block with its signatures.
    assert world.messages - before < 400
    assert all(len(node.disk.headers) >= 1 for node in world.nodes), "the heartbeat closes a block"
    assert all(len(node.certified) == len(node.disk.headers) for node in world.nodes)


def test_a_payload_on_an_idle_network_is_certified_fast() -> None:
    world = calm(payloads_until_ms=0, duration_ms=2_000)
    heights = [len(node.certified) for node in world.nodes]
    world._submit()
    world.advance(2_400)
    assert [len(node.certified) for node in world.nodes] > heights
    assert all(len(committed_tokens(node.commits)) == 1 for node in world.nodes)


def test_a_partition_stops_commits_and_its_end_resumes_them() -> None:
    split = (frozenset({0, 1}), 500, HEAL_MS)
    faults = LinkFaults(heal_ms=HEAL_MS, max_delay_ms=10)
    world = World(Scenario(seed=5, parameters=FAST, faults=faults, partition=split, duration_ms=1_000)).run()
    counts = [len(node.commits) for node in world.nodes]
    world.advance(HEAL_MS)
    assert max(len(node.commits) for node in world.nodes) <= max(counts) + 4, "no quorum, no commits"
    check_liveness(world, 5, 2_000)
    check_safety(world)


def test_a_node_that_was_down_for_long_catches_up_by_ranges() -> None:
    parameters = Parameters(idle_delay_ms=0, range_rounds=32, gc_depth=20, far_behind_rounds=10)
    scenario = Scenario(seed=2, parameters=parameters, faults=CALM, crashes=((3, 400, 4_000),), duration_ms=4_300)
    world = World(scenario).run()
    assert world.nodes[3].engine is None
    check_liveness(world, 5, 5_000)
    check_safety(world)
    assert world.nodes[3].starts == 2


def test_a_lost_disk_sits_out_and_signs_nothing_twice() -> None:
    world = calm(parameters=BUSY, duration_ms=1_000)
    node = world.nodes[3]
    node.crash()
    node.disk = type(node.disk)()
    node.commits.clear()
    node.certified.clear()
    node.boot()
    world.advance(3_000)
    assert node.engine is not None
    assert node.engine.status().sitting_out is not None
    check_liveness(world, 5, 5_000)
    check_safety(world)


@pytest.mark.parametrize("seed", range(6))
def test_an_equivocator_is_evidenced_by_every_honest_node(seed: int) -> None:
    forker = frozenset({seed % 4})
    world = calm(seed, powers=(1, 1, 1, 1), equivocators=forker, parameters=FAST)
    check_liveness(world, 10, 15_000)
    check_safety(world)
    for node in world.honest():
        assert node.engine is not None
        assert node.engine.status().evidence == (seed % 4,)
    carried = [vertex for commit in world.honest()[0].commits.values() for vertex in commit.vertices if vertex.evidence]
    assert carried, "the evidence is ordered for the ledger"


def test_skewed_clocks_only_delay() -> None:
    world = calm(skews_ms=(0, 400, -300, 0), parameters=FAST)
    check_liveness(world, 10, 5_000)
    check_safety(world)


def test_unequal_stake_stays_live_with_its_small_authorities_silent() -> None:
    world = calm(powers=(1, 4, 4, 1, 4, 4), silent=frozenset({0, 3}), parameters=BUSY)
    check_liveness(world, 20, 5_000)
    check_safety(world)


def test_a_crash_at_every_early_effect_never_signs_twice() -> None:
    """The crash strikes between any two effects: before, inside and behind every Persist and Broadcast."""
    for after in range(24):
        world = World(Scenario(seed=after, parameters=BUSY, faults=CALM, duration_ms=700, payloads_until_ms=600))
        world.later(300, lambda world=world, after=after: setattr(world.nodes[0], "crash_after", after))
        world.later(450, lambda world=world: world._restart(world.nodes[0]))
        world.run()
        check_safety(world)
        check_liveness(world, 4, 3_000)
