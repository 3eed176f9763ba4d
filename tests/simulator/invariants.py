"""What must hold after every run, whatever the faults were (docs/protocol.md, section 14).

`check_safety` holds at any moment, `check_progress` once the network is well again, `check_views` for any causally
closed part of what the nodes hold. Each raises Broken with the seed and the node.
"""

from random import Random

from consensus.dag.vertex import VertexRef
from consensus.engine import Engine
from consensus.events import Commit, CommittedSubDag, StoredEpoch
from mpisa.primitives import merkle
from mpisa.primitives.errors import RejectionReason
from mpisa.primitives.identifiers import Epoch
from mpisa.primitives.receipt import ReceiptStatus
from tests.simulator.ledger import Block
from tests.simulator.node import Node
from tests.simulator.world import World

STEP_MS = 50
FAR_MS = 1 << 40
# An operator may ask for what its stake or the set doesn't allow any more.
ALLOWED = frozenset(
    {
        RejectionReason.ALREADY_VALIDATOR,
        RejectionReason.NOT_VALIDATOR,
        RejectionReason.LAST_VALIDATOR,
        RejectionReason.INSUFFICIENT_STAKE,
        RejectionReason.VALIDATOR_LEAVING,
        RejectionReason.STAKE_TOO_LOW,
    }
)


class Broken(AssertionError):
    """An invariant doesn't hold; the text says which, where."""


def check_safety(world: World) -> None:
    """Agreement, one signature a round and height, each transaction once, nothing acknowledged lost."""
    honest = world.honest()
    _check_commits(honest)
    _check_headers(honest)
    _check_signatures(world)
    _check_transactions(world, chain_of(honest))
    for node in honest:
        expect(node.halts == [], f"node {node.seat} halted: {node.halts}")
        wrongly = _sound(world, node.accused)
        expect(not wrongly, f"node {node.seat} has evidence against {wrongly}")
        for block in node.history.values():
            wrongly = _sound(world, {world.holders[offence.address] for offence in block.offences})
            expect(not wrongly, f"block {block.header.height} of node {node.seat} charges {wrongly}")
        early = node.proposed_early
        expect(not early, f"node {node.seat} made vertices while it was behind: {early}")
        _check_state(node)
    for seat, peer, what in world.dropped:
        expect(world.nodes[peer].strategy.is_byzantine, f"node {seat} drops node {peer} as a source: {what}")
    for seat, author, rejection in world.faults:
        expect(world.nodes[author].strategy.is_byzantine, f"node {seat} blames {author}: {rejection}")
    for (sender, reason), count in world.rejected.items():
        expect(world.nodes[sender].strategy.is_byzantine, f"node {sender} sent {count} bad vertices: {reason}")


def check_bounds(world: World) -> None:
    """What an honest node keeps in memory doesn't exceed what its parameters allow, whatever it is sent."""
    parameters = world.scenario.parameters
    for node in world.honest():
        if node.engine is None:
            continue
        status = node.engine.status()
        committee = node.engine.committee
        count = len(committee)
        budget = 1 + count * (parameters.twin_budget << len(status.evidence))
        holders = [world.nodes[world.holders[item.address]] for item in committee.authorities]
        faulty = sum(holder.strategy.is_byzantine for holder in holders)
        rounds = status.highest_accepted_round - status.gc_round
        limit = rounds * (count - faulty + faulty * budget)
        expect(status.vertices <= limit, f"node {node.seat} holds {status.vertices} vertices of {rounds} rounds")
        expect(status.pending <= parameters.max_pending, f"node {node.seat} lets {status.pending} vertices wait")
        expect(status.held <= parameters.max_held, f"node {node.seat} holds back {status.held} vertices")
        most = status.pending * count
        expect(status.missing <= most, f"node {node.seat} misses {status.missing} for {status.pending} that wait")


def check_progress(world: World, more_commits: int, within_ms: int) -> int:
    """From now on every honest node gets so many commits above today's highest in time; how many rounds it took until
    half of them had committed a leader of a round that nobody had reached before.
    """
    honest = world.honest()
    goal = max(_index(node) for node in honest) + more_commits
    reached = max(_position(node) for node in honest)
    deadline = world.now + within_ms
    rounds: int | None = None
    while world.now < deadline:
        world.advance(world.now + STEP_MS)
        if rounds is None and 2 * sum(_leader(node) >= reached for node in honest) > len(honest):
            epoch, number = max(_position(node) for node in honest)
            rounds = number - (reached[1] if epoch == reached[0] else 0)
        if rounds is not None and all(_index(node) >= goal for node in honest):
            return rounds
    counts = [_index(node) for node in world.nodes]
    raise Broken(f"no progress: {within_ms} ms after {goal - more_commits} commits there are {counts}, expected {goal}")


def check_settled(world: World, within_ms: int) -> None:
    """Clients stop; then everything that they handed in is certified, everywhere, and equivocators are evidenced."""
    for client in world.clients:
        client.is_stopped = True
    height = max(node.disk.height for node in world.honest())
    deadline = world.now + within_ms
    while world.now < deadline and not (_is_settled(world, height) and not _uncharged(world)):
        height = max(height, max(world.acknowledged.values(), default=0))
        world.advance(world.now + STEP_MS)
    left = len(world.waiting)
    expect(left == 0, f"{left} of {world.submitted} transactions aren't certified {within_ms} ms after the last")
    for node in world.honest():
        top = max(node.certified, default=0)
        expect(top >= height, f"node {node.seat} has certificates up to height {top} only, expected {height}")
    lacking = _uncharged(world)
    expect(not lacking, f"what {lacking} did isn't charged by any block")


def check_views(world: World, views: int) -> None:
    """One late call over any causally closed part of an epoch's DAG gives a prefix of the same commits."""
    longest = max(world.honest(), key=_index)
    known_starts = {epoch: start for node in world.honest() for epoch, start in node.disk.starts.items()}
    random = Random(f"views {world.scenario.seed}")
    for _ in range(views):
        epoch = random.choice(sorted({commit.epoch for commit in longest.commits.values()}))
        known: dict[VertexRef, bytes] = {}
        for node in world.honest():
            known.update(node.disk.of(epoch).raws)
        known.update(world.pruned.get(epoch, {}))
        view = _view(world, known, random)
        start = known_starts[epoch]
        vertices = [world.decode(raw) for raw in view.values()]
        engine = Engine(world.scenario.parameters, world.ledger.chain_hash, start, None, StoredEpoch(vertices=vertices))
        for effect in engine.start(world.nodes[0].clock() + FAR_MS):
            if isinstance(effect, Commit):
                other = longest.commits.get(effect.commit.index)
                if other is None or other.epoch != epoch:
                    break  # further than anybody, or void behind the closing commit
                same = other.digest == effect.commit.digest
                expect(same, f"a view of {len(view)} vertices orders another commit {effect.commit.index}")


def expect(holds: bool, text: str) -> None:
    """Raise Broken unless it holds."""
    if not holds:
        raise Broken(text)


def chain_of(honest: list[Node]) -> list[Block]:
    """All blocks that anybody executed, ascending; nodes that began with a snapshot never had the first."""
    blocks: dict[int, Block] = {}
    for node in honest:
        blocks |= node.history
    return [blocks[height] for height in sorted(blocks)]


def _check_commits(honest: list[Node]) -> None:
    known: dict[int, tuple[Node, CommittedSubDag]] = {}
    for node in honest:
        indices = sorted(node.commits)
        expected = [index for index in range(1, _index(node) + 1) if index not in node.gaps]
        expect(indices == expected, f"node {node.seat} has gaps in its commits")
        for index, commit in node.commits.items():
            first, other = known.setdefault(index, (node, commit))
            mine = (commit.digest, commit.leader, commit.time_ms, commit.block, commit.window_root, commit.cursor)
            theirs = (other.digest, other.leader, other.time_ms, other.block, other.window_root, other.cursor)
            expect(mine == theirs, f"nodes {node.seat} and {first.seat} differ at commit {index}")
        identifiers = [vertex.id for commit in node.commits.values() for vertex in commit.vertices]
        expect(len(identifiers) == len(set(identifiers)), f"node {node.seat} ordered a vertex twice")


def _check_headers(honest: list[Node]) -> None:
    known: dict[int, tuple[Node, bytes]] = {}
    for node in honest:
        hashes = {height: block.hash for height, block in node.history.items()}
        for height, digest in (*hashes.items(), *node.certified.items()):
            first, other = known.setdefault(height, (node, digest))
            expect(digest == other, f"nodes {node.seat} and {first.seat} have other headers at height {height}")


def _check_state(node: Node) -> None:
    """What a node that began with a snapshot holds leads to its last header's root, which all others have too."""
    if node.joins:
        found, header = merkle.map_root(node.last_block.state.entries), node.last_block.header
        expect(found == header.state_root, f"node {node.seat} has another state at height {header.height}")


def _check_signatures(world: World) -> None:
    for (epoch, address, number), identifiers in world.signed.items():
        seat = world.holders[address]
        expect(len(identifiers) == 1, f"node {seat} signed {len(identifiers)} vertices for round {number} of {epoch}")
    for (address, height), hashes in world.headers_signed.items():
        seat = world.holders[address]
        expect(len(hashes) == 1, f"node {seat} signed {len(hashes)} headers for height {height}")


def _check_transactions(world: World, chain: list[Block]) -> None:
    final: dict[bytes, int] = {}
    placed: dict[bytes, int] = {}
    for block in chain:
        for raw in block.transactions:
            placed.setdefault(raw, block.header.height)
        for receipt in block.receipts:
            if receipt.nonce_used:
                final[receipt.tx_hash] = final.get(receipt.tx_hash, 0) + 1
                refused = receipt.status is ReceiptStatus.REJECTED and receipt.reason not in ALLOWED
                expect(not refused, f"a transaction of a client was refused: {receipt}")
    twice = [digest.hex() for digest, count in final.items() if count > 1]
    expect(not twice, f"transactions executed more than once: {twice}")
    for raw in world.acknowledged:
        expect(raw in placed, f"an acknowledged transaction of height {world.acknowledged[raw]} is gone")


def _sound(world: World, seats: set[int]) -> list[int]:
    return [seat for seat in sorted(seats) if not world.nodes[seat].strategy.is_byzantine]


def _offenders(world: World) -> list[int]:
    return [node.seat for node in world.nodes if node.strategy.offends and node.offended]


def _uncharged(world: World) -> list[int]:
    """Offenders that no block names."""
    chain = chain_of(world.honest())
    charged = {world.holders[offence.address] for block in chain for offence in block.offences}
    return [seat for seat in _offenders(world) if seat not in charged]


def _is_settled(world: World, height: int) -> bool:
    return not world.waiting and all(max(node.certified, default=0) >= height for node in world.honest())


def _index(node: Node) -> int:
    return max(node.commits, default=0)


def _position(node: Node) -> tuple[Epoch, int]:
    """The open round of the current epoch."""
    if node.engine is None:
        return Epoch(0), 0
    return node.engine.epoch, node.engine.status().open_round


def _leader(node: Node) -> tuple[Epoch, int]:
    """The last committed leader's epoch and round."""
    commit = node.commits.get(_index(node))
    return (Epoch(0), 0) if commit is None else (commit.epoch, commit.leader.round)


def _view(world: World, known: dict[VertexRef, bytes], random: Random) -> dict[VertexRef, bytes]:
    """The ancestors of some vertices of some late round, themselves included."""
    refs = sorted(known)
    late = refs[len(refs) // 3 :]
    tips = random.sample(late, min(len(late), random.randint(1, 2 * len(world.nodes))))
    view: dict[VertexRef, bytes] = {}
    waiting = list(tips)
    while waiting:
        ref = waiting.pop()
        if ref in view or ref not in known:
            continue
        view[ref] = known[ref]
        waiting.extend(world.decode(known[ref]).parents)
    return view
