"""What an engine shows of itself."""

from dataclasses import dataclass

from consensus.catch_up import CatchUp
from consensus.dag.admission import Admission
from consensus.dag.graph import Graph
from consensus.dag.threshold_clock import ThresholdClock
from consensus.order.certifier import Certifier
from consensus.order.sequencer import Sequencer
from consensus.pacemaker import Pacemaker
from consensus.proposer import Proposer
from mpisa.primitives.header import Header
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Round


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an operator or the shell may want to know: rounds, heights, counts.

    `own` is the authority that this node is in the epoch, None for a follower. `round` is that of the last own vertex,
    `open_round` the one a vertex may be made for; `evidence` and `suspects` are authority indices, `suspended` those
    without leader slots; `diverging` pairs of height and authority that named another header than ours;
    `slots_committed` and `slots_skipped` count leader slots since the engine began. `closing` says that the epoch's
    last header is executed, `sitting_out` and `halted` say why, None if not.
    """

    epoch: Epoch
    own: AuthorityIndex | None
    round: Round
    open_round: int
    highest_accepted_round: int
    highest_known_round: int
    gc_round: int
    last_commit_index: int
    last_leader_round: int
    ordered_height: int
    executed_height: int
    certified_height: int
    pending: int
    held: int
    missing: int
    vertices: int
    evidence: tuple[int, ...]
    suspects: tuple[int, ...]
    suspended: tuple[int, ...]
    diverging: tuple[tuple[int, int], ...]
    slots_committed: int
    slots_skipped: int
    catching_up: bool
    idle: bool
    closing: bool
    sitting_out: str | None
    halted: str | None


def describe(
    epoch: Epoch,
    own: AuthorityIndex | None,
    proposer: Proposer | None,
    clock: ThresholdClock,
    graph: Graph,
    catch_up: CatchUp,
    sequencer: Sequencer,
    certifier: Certifier,
    admission: Admission,
    pacemaker: Pacemaker,
    *,
    closing: Header | None,
    is_idle: bool,
    sitting_out: str | None,
    halted: str | None,
) -> EngineStatus:
    """The status of an engine with these parts."""
    checkpoint = sequencer.linearizer.checkpoint
    leader = checkpoint.leader
    return EngineStatus(
        epoch=epoch,
        own=own,
        round=Round(0) if proposer is None else proposer.last.round,
        open_round=clock.round,
        highest_accepted_round=graph.highest_round,
        highest_known_round=catch_up.known_round,
        gc_round=graph.pruned_round,
        last_commit_index=checkpoint.index if closing is None else closing.last_commit,
        last_leader_round=0 if leader is None else leader.round,
        ordered_height=checkpoint.height if closing is None else closing.height,
        executed_height=certifier.executed_height,
        certified_height=certifier.certified_height,
        pending=len(admission.pending),
        held=len(admission.held),
        missing=admission.pending.missing_count,
        vertices=len(graph),
        evidence=tuple(sorted(admission.equivocators)),
        suspects=tuple(sorted(pacemaker.suspects)),
        suspended=tuple(sorted(sequencer.rota.suspended)),
        diverging=certifier.diverging(),
        slots_committed=pacemaker.slots_committed,
        slots_skipped=pacemaker.slots_skipped,
        catching_up=catch_up.is_behind(clock.round),
        idle=is_idle,
        closing=closing is not None,
        sitting_out=sitting_out,
        halted=halted,
    )
