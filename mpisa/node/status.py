"""What a node says of itself: ready or why not, where it is, its peers. Pure reading of a Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa._version import __version__
from mpisa.network.ports import PeerId
from mpisa.node.syncing import Phase
from mpisa.node.views import NodeStatus, PeerView

if TYPE_CHECKING:
    from mpisa.network.ports import PeerAddress
    from mpisa.node.runtime import Runtime, Setup

BEHIND_ROUNDS = 8
"""Fewer rounds behind the others than this counts as caught up."""


def reasons_not_ready(runtime: Runtime) -> list[str]:
    """In words; empty when the node serves."""
    reasons = []
    if runtime.reactions.halt_reason is not None:
        reasons.append(f"halted: {runtime.reactions.halt_reason}; {runtime.reactions.halt_advice}")
    if runtime.reactions.disk_error is not None:
        reasons.append(runtime.reactions.disk_error)
    committee, own = runtime.helm.committee, runtime.helm.own
    stake = _reachable_stake(runtime)
    if own is None:
        if stake == 0:
            reasons.append("connected to no authority")
    elif not committee.is_quorum(stake):
        reasons.append(f"linked to authorities with {stake} of {committee.total} stake, a quorum is needed")
    progress = _progress(runtime)
    status = runtime.helm.status()
    if progress is not None:
        reasons.append(f"catching up by {progress}")
    elif runtime.behind.keeping_up.is_away:
        if own is not None:  # else it follows for good
            reasons.append("catching up by certified blocks")
    elif status.catching_up or status.highest_known_round > status.highest_accepted_round + BEHIND_ROUNDS:
        reasons.append(f"catching up: at round {status.highest_accepted_round} of {status.highest_known_round}")
    target = runtime.standing.target
    if target is None:
        reasons.append("asking the others how far they are")
    elif runtime.store.certified_height < target:
        reasons.append(f"catching up: certified up to height {runtime.store.certified_height} of {target}")
    halted = runtime.submissions.halted()
    if halted is not None and not reasons:
        reasons.append(str(halted))
    return reasons


def _reachable_stake(runtime: Runtime) -> int:
    """Stake of the authorities this node is linked to (a follower: connected to), itself included."""
    helm = runtime.helm
    if helm.own is None:
        reachable = {info.peer_id for info in runtime.network.peers()}
    else:
        reachable = set(runtime.network.authorities.linked())
    validators = runtime.store.epoch(helm.epoch).validators
    return sum(
        item.power for index, item in enumerate(validators) if index == helm.own or PeerId(item.peer_id) in reachable
    )


def status_of(
    runtime: Runtime, setup: Setup, api_url: str, started_ms: int, ready: tuple[bool, list[str]]
) -> NodeStatus:
    """Everything that `mpisa node status` shows."""
    engine = runtime.helm.status()
    round_number, commit_index = where(runtime)
    stats = runtime.blocks.stats()
    own = None if engine.own is None else runtime.store.epoch(engine.epoch).validators[engine.own]
    address = runtime.network.address
    return NodeStatus(
        name=setup.config.name,
        version=__version__,
        role=setup.config.role.value,
        peer_id=runtime.network.peer_id,
        chain_id=setup.genesis.chain_id,
        authority=None if own is None else own.name,
        authority_index=engine.own,
        epoch=engine.epoch,
        api_url=api_url,
        peer_url=address.peer_url or "",
        listen=address.multiaddrs,
        round=round_number,
        commit_index=commit_index,
        height=runtime.store.height,
        certified_height=runtime.store.certified_height,
        mempool=len(runtime.pool),
        mempool_bytes=runtime.pool.size,
        caught_up=not engine.catching_up and _progress(runtime) is None,
        syncing=_progress(runtime),
        kept_from=runtime.store.lowest_height,
        halted=runtime.reactions.halt_reason or engine.halted,
        sitting_out=engine.sitting_out,
        ready=ready[0],
        not_ready=tuple(ready[1]),
        started_ms=started_ms,
        blocks_held=stats.blocks,
        bytes_held=stats.bytes_used,
    )


def _progress(runtime: Runtime) -> str | None:
    """How far catching up has come, in words; None while there is nothing to catch up with."""
    progress, joining = runtime.behind.syncing.progress, runtime.behind.joining
    if progress.phase is Phase.SNAPSHOT:
        return f"snapshot of height {joining.height}: {joining.done:.0%} of the state is here"
    return progress.describe()


def where(runtime: Runtime) -> tuple[int, int]:
    """Round and commit index: the engine's, or those of the blocks applied while it rests."""
    stand = runtime.behind.syncing.stand
    if not runtime.behind.keeping_up.is_away or stand is None:
        engine = runtime.helm.status()
        return engine.highest_accepted_round, engine.last_commit_index
    checkpoint = stand.position.checkpoint
    return 0 if checkpoint.leader is None else checkpoint.leader.round, checkpoint.index


def peers_of(runtime: Runtime) -> tuple[PeerView, ...]:
    """Connected peers and every other authority, sorted by peer id."""
    connected = {info.peer_id: info for info in runtime.network.peers()}
    linked = runtime.network.authorities.linked()
    validators = runtime.store.epoch(runtime.helm.epoch).validators
    indices = {item.peer_id: index for index, item in enumerate(validators)}
    others = {*connected, *indices} - {runtime.network.peer_id}
    views = []
    for peer in sorted(others):
        info = next((found for name, found in connected.items() if name == peer), None)
        views.append(
            PeerView(
                peer_id=peer,
                addresses=() if info is None else _addresses(info.address),
                authority=indices.get(peer),
                connected=info is not None,
                link=any(name == peer for name in linked),
            )
        )
    return tuple(views)


def _addresses(address: PeerAddress) -> tuple[str, ...]:
    return (*address.multiaddrs, *((address.peer_url,) if address.peer_url else ()))
