"""The figures of a node for /metrics (docs/metrics.md). Pure reading of a Runtime."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from mpisa.node.status import where

if TYPE_CHECKING:
    from pathlib import Path

    from consensus.status import EngineStatus
    from mpisa.network.ports import NetworkStats
    from mpisa.node.home import Home
    from mpisa.node.runtime import Runtime


def metrics_of(runtime: Runtime, home: Home, now_ms: int) -> dict[str, float]:
    """Counters end in _total; the rest are gauges. Sizes in bytes. docs/metrics.md says what each means."""
    engine, network = runtime.helm.status(), runtime.network.snapshot()
    parts = (
        {f"{name}_total": count for name, count in _counters(runtime, engine, network).items()},
        {f"cpu_{stage.value}_seconds_total": spent for stage, spent in runtime.stages.seconds.items()},
        _chain(runtime, engine, now_ms),
        _dag(runtime, engine),
        _pool(runtime),
        _network(runtime, network),
        _stores(runtime, home),
    )
    return {name: float(value) for part in parts for name, value in part.items()}


def _counters(runtime: Runtime, engine: EngineStatus, network: NetworkStats) -> dict[str, int]:
    """Without their ending."""
    behind = runtime.behind
    counters: dict[str, int] = {}
    for source in (
        runtime.ordering.counters,
        runtime.submissions.counters,
        runtime.publishing.counters,
        runtime.retrieval,
        runtime.collecting.counters,
    ):
        counters |= asdict(source)
    traffic = asdict(network)
    del traffic["reprovide_lag_seconds"]  # a gauge
    return counters | {
        "vertices_received": runtime.links.vertices_received,
        "leader_slots_committed": engine.slots_committed,
        "leader_slots_skipped": engine.slots_skipped,
        "frames_rejected": runtime.links.frames_rejected,
        "frames_of_other_epochs": runtime.links.frames_of_other_epochs,
        "syncs": behind.syncing.progress.syncs,
        "sync_blocks_applied": behind.applying.blocks_applied,
        "sync_commits_applied": behind.applying.commits_applied,
        "sync_liars_dropped": behind.sources.liars_dropped,
        "blocks_pruned": behind.pruning.blocks_pruned,
        **{f"network_{name}": value for name, value in traffic.items()},
    }


def _chain(runtime: Runtime, engine: EngineStatus, now_ms: int) -> dict[str, float]:
    """Where this node is, and how far behind."""
    store, behind = runtime.store, runtime.behind
    round_number, commit_index = where(runtime)
    return {
        "epoch": engine.epoch,
        "authority": engine.own is not None and engine.sitting_out is None,
        "epochs_open": len(runtime.helm.committees),
        "round": round_number,
        "commit_index": commit_index,
        "kept_from_height": store.lowest_height,
        "sync_in_flight": behind.ranging.in_flight,
        "sync_target_height": behind.syncing.progress.target,
        "ordered_height": store.height,
        "certified_height": store.certified_height,
        "certification_lag_blocks": runtime.submissions.lag(),
        "certification_lag_ms": _certification_lag_ms(runtime, now_ms),
        "certified_age_ms": runtime.freshness.age_ms,
        "behind_blocks": max(0, behind.sources.highest() - store.certified_height),
    }


def _dag(runtime: Runtime, engine: EngineStatus) -> dict[str, float]:
    """What the engine holds, and what it thinks of the others."""
    return {
        "dag_vertices": engine.vertices,
        "dag_pending": engine.pending,
        "dag_held": engine.held,
        "dag_missing": engine.missing,
        "leaders_suspended": len(engine.suspended),
        "authorities_silent": len(engine.suspects),
        "equivocators": len(engine.evidence),
        "inbox_events": len(runtime.inbox),
    }


def _pool(runtime: Runtime) -> dict[str, float]:
    """What waits to be ordered."""
    return {
        "intake_stopped": runtime.submissions.halted() is not None,
        "mempool_transactions": len(runtime.pool),
        "mempool_bytes": runtime.pool.size,
        "mempool_in_flight": runtime.pool.in_flight,
    }


def _network(runtime: Runtime, network: NetworkStats) -> dict[str, float]:
    """Whom this node is connected to."""
    return {
        "network_reprovide_lag_seconds": network.reprovide_lag_seconds,
        "link_faults": len(runtime.network.link_rules()),
        "peers": len(runtime.network.peers()),
        "authority_links": len(runtime.network.authorities.linked()),
    }


def _stores(runtime: Runtime, home: Home) -> dict[str, float]:
    """What is on the disk."""
    stats = runtime.blocks.stats()
    state = runtime.collecting.state
    return {
        "gc_running": state.running,
        "gc_longest_hold_ms": 0.0 if state.last is None else state.last.longest_hold_ms,
        "gc_last_run_seconds": 0.0 if state.last is None else state.last.seconds,
        "leases_open": stats.leases,
        "ledger_store_bytes": directory_bytes(home.ledger),
        "vertex_store_bytes": directory_bytes(home.consensus),
        "store_blocks": stats.blocks,
        "store_bytes": stats.bytes_used,
    }


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
