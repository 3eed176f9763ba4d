"""What a node says of itself: ready or why not, peers, figures. Pure reading of a Runtime."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from mpisa._version import __version__
from mpisa.network.ports import PeerId
from mpisa.node.syncing import Phase
from mpisa.node.views import NodeStatus, PeerView

if TYPE_CHECKING:
    from pathlib import Path

    from mpisa.network.ports import PeerAddress
    from mpisa.node.home import Home
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
    round_number, commit_index = _where(runtime)
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


def _where(runtime: Runtime) -> tuple[int, int]:
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


def _certification_lag_ms(runtime: Runtime, now_ms: int) -> int:
    """How long ago the oldest chain block without a certificate was made."""
    if not runtime.submissions.lag():
        return 0
    return max(0, now_ms - runtime.store.header(runtime.store.certified_height + 1).time_ms)


def directory_bytes(path: Path) -> int:
    """What the files right in a directory hold; those that go meanwhile count nothing."""
    total = 0
    with os.scandir(path) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def metrics_of(runtime: Runtime, home: Home, now_ms: int) -> dict[str, float]:
    """Counters end in _total; the rest are gauges. Sizes in bytes. docs/metrics.md says what each means."""
    engine = runtime.helm.status()
    round_number, commit_index = _where(runtime)
    stats = runtime.blocks.stats()
    counters: dict[str, int] = {}
    for source in (
        runtime.ordering.counters,
        runtime.submissions.counters,
        runtime.publishing.counters,
        runtime.retrieval,
    ):
        counters |= asdict(source)
    counters |= {
        "vertices_received": runtime.links.vertices_received,
        "leader_slots_committed": engine.slots_committed,
        "leader_slots_skipped": engine.slots_skipped,
        "frames_rejected": runtime.links.frames_rejected,
        "frames_of_other_epochs": runtime.links.frames_of_other_epochs,
        "syncs": runtime.behind.syncing.progress.syncs,
        "sync_blocks_applied": runtime.behind.applying.blocks_applied,
        "sync_commits_applied": runtime.behind.applying.commits_applied,
        "sync_liars_dropped": runtime.behind.sources.liars_dropped,
        "blocks_pruned": runtime.behind.pruning.blocks_pruned,
    }
    counters |= {f"network_{name}": value for name, value in asdict(runtime.network.snapshot()).items()}
    lag = counters.pop("network_reprovide_lag_seconds", 0)
    figures: dict[str, float] = {f"{name}_total": float(value) for name, value in sorted(counters.items())}
    figures |= {f"cpu_{stage.value}_seconds_total": spent for stage, spent in runtime.stages.seconds.items()}
    return figures | {
        "network_reprovide_lag_seconds": float(lag),
        "epoch": float(engine.epoch),
        "authority": float(engine.own is not None and engine.sitting_out is None),
        "epochs_open": float(len(runtime.helm.committees)),
        "round": float(round_number),
        "commit_index": float(commit_index),
        "kept_from_height": float(runtime.store.lowest_height),
        "sync_in_flight": float(runtime.behind.ranging.in_flight),
        "sync_target_height": float(runtime.behind.syncing.progress.target),
        "ordered_height": float(runtime.store.height),
        "certified_height": float(runtime.store.certified_height),
        "certification_lag_blocks": float(runtime.submissions.lag()),
        "certification_lag_ms": float(_certification_lag_ms(runtime, now_ms)),
        "certified_age_ms": float(runtime.freshness.age_ms),
        "behind_blocks": float(max(0, runtime.behind.sources.highest() - runtime.store.certified_height)),
        "intake_stopped": float(runtime.submissions.halted() is not None),
        "dag_vertices": float(engine.vertices),
        "dag_pending": float(engine.pending),
        "dag_held": float(engine.held),
        "dag_missing": float(engine.missing),
        "leaders_suspended": float(len(engine.suspended)),
        "authorities_silent": float(len(engine.suspects)),
        "link_faults": float(len(runtime.network.link_rules())),
        "ledger_store_bytes": float(directory_bytes(home.ledger)),
        "vertex_store_bytes": float(directory_bytes(home.consensus)),
        "inbox_events": float(len(runtime.inbox)),
        "mempool_transactions": float(len(runtime.pool)),
        "mempool_bytes": float(runtime.pool.size),
        "mempool_in_flight": float(runtime.pool.in_flight),
        "peers": float(len(runtime.network.peers())),
        "authority_links": float(len(runtime.network.authorities.linked())),
        "store_blocks": float(stats.blocks),
        "store_bytes": float(stats.bytes_used),
        "equivocators": float(len(engine.evidence)),
    }
