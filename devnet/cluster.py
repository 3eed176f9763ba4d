"""Start, stop and look after a devnet.

`up` makes the devnet when its home is empty, starts whichever of its nodes don't run, and returns when every node says
it is ready; if that fails, what it started is stopped again. `down` ends exactly the recorded processes. `reset`
empties the chain's data in a home that we recognise as ours. Commands on one home exclude each other by its lock.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from devnet import health, state
from devnet.launch import LOGS, Serve, added_lines, fork_node, log_sizes, prepare_to_fork
from devnet.plan import Plan, Say
from devnet.process import ProcessIdentity, is_alive, is_paused, lock_holder, terminate, wait_gone
from devnet.state import Manifest
from mpisa.primitives.errors import InvalidConfig, NotFound, NotReady

READY_TIMEOUT_S = 60.0
STOP_GRACE_S = 10.0
NODE_LOCK = "node.lock"
"""Held by a running node in its home, see mpisa.node.home."""
_POLL_S = 0.03
_WATCH_S = 0.5


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` found and did: names of nodes it started, and of those that ran already."""

    manifest: Manifest
    started: tuple[str, ...]
    running: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `down` did, by node name."""

    ended: tuple[str, ...]
    killed: tuple[str, ...]
    already_down: tuple[str, ...]


def up(home: Path, plan: Plan, serve: Callable[[], Serve], say: Say, *, timeout_s: float = READY_TIMEOUT_S) -> Started:
    """Make or complete the devnet of `home`; it is ready on return.

    `serve` is called once, and only when a node has to be started: it may import much. Raises NotReady.
    """
    begun = time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    with state.locked(home):
        manifest = _load_or_make(home, plan, say)
        alive = running(home)
        absent = [node for node in manifest.nodes if node.name not in alive]
        if absent:
            _start(home, manifest, alive, serve(), say, begun + timeout_s)
        manifest = _with_pids(manifest, running(home))
        state.write_json(home / state.MANIFEST, manifest.to_json())
    return Started(manifest, tuple(node.name for node in absent), tuple(alive), round(time.monotonic() - begun, 3))


def _load_or_make(home: Path, plan: Plan, say: Say) -> Manifest:
    manifest = state.read_manifest(home)
    if manifest is None:
        from devnet.genesis import make

        return make(home, plan, say)
    from devnet.genesis import why_unreadable

    reason = why_unreadable(home)
    if reason is not None:
        raise InvalidConfig(
            f"the devnet in {home} was made by another version of mpisa: {reason}",
            hint=f"make it anew, with the same accounts: mpisa devnet reset --home {home}, then mpisa devnet up --home "
            f"{home}",
        )
    plan.require_matches(manifest)
    return manifest


def _start(
    home: Path, manifest: Manifest, alive: Mapping[str, ProcessIdentity], serve: Serve, say: Say, deadline: float
) -> None:
    processes = dict(alive)
    fresh: dict[str, ProcessIdentity] = {}
    logged = {node.name: log_sizes(node.home) for node in manifest.nodes}
    prepare_to_fork()
    try:
        for node in manifest.nodes:
            if node.name not in processes:
                fresh[node.name] = processes[node.name] = fork_node(node.name, node.home, serve)
                state.write_processes(home, processes)
        _await_ready(manifest, fresh, logged, say, deadline)
    except BaseException:
        terminate(fresh.values(), grace_s=STOP_GRACE_S)
        raise


def start(home: Path, names: Sequence[str], serve: Callable[[], Serve], say: Say, timeout_s: float) -> None:
    """Start these nodes of the devnet and return once each answers: whether it is ready may be up to the others.

    Raises NotReady for one that ends, or says nothing within `timeout_s` seconds; the others go on.
    """
    with state.locked(home):
        manifest = state.require_manifest(home)
        processes = running(home)
        nodes = [node for node in manifest.nodes if node.name in names and node.name not in processes]
        logged = {node.name: log_sizes(node.home) for node in nodes}
        run = serve() if nodes else None
        prepare_to_fork()
        for node in nodes:
            assert run is not None
            processes[node.name] = fork_node(node.name, node.home, run)
        state.write_processes(home, processes)
        state.write_json(home / state.MANIFEST, _with_pids(manifest, processes).to_json())
    deadline = time.monotonic() + timeout_s
    for node in nodes:
        while health.ask(node.api, "/healthz") is None:
            if not is_alive(processes[node.name]):
                raise _failed(node, "ended while starting", logged[node.name], "")
            if time.monotonic() > deadline:
                raise _failed(node, "doesn't answer", logged[node.name], "")
            time.sleep(_POLL_S)
        say(f"{node.name} runs again")


def _await_ready(
    manifest: Manifest,
    fresh: Mapping[str, ProcessIdentity],
    logged: Mapping[str, tuple[int, ...]],
    say: Say,
    deadline: float,
) -> None:
    waiting = [node for node in manifest.nodes if node.name in fresh]
    while waiting:
        for node in tuple(waiting):
            answer = health.health(node.api)
            if answer.ready:
                say(f"{node.name} is ready")
                waiting.remove(node)
            elif not is_alive(fresh[node.name]):
                raise _failed(node, "ended while starting", logged[node.name])
            elif time.monotonic() > deadline:
                raise _failed(node, f"was not ready in time: {'; '.join(answer.reasons)}", logged[node.name])
        if waiting:
            time.sleep(_POLL_S)


def _failed(
    node: state.DevnetNode, what: str, logged: tuple[int, ...], rest: str = "; nothing that was started is left running"
) -> NotReady:
    lines = "\n".join(f"  {line}" for line in added_lines(node.home, logged)) or "  (it logged nothing)"
    return NotReady(
        f"{node.name} {what}{rest}. What it said last:\n{lines}",
        hint=f"the whole log: {node.home / LOGS[1]}",
    )


def _with_pids(manifest: Manifest, processes: Mapping[str, ProcessIdentity]) -> Manifest:
    nodes = tuple(
        replace(node, pid=processes[node.name].pid if node.name in processes else None) for node in manifest.nodes
    )
    return replace(manifest, nodes=nodes)


def attend(home: Path, say: Say) -> None:
    """Stay until every node has ended, and say when one does; a node that another command starts is taken in."""
    known = running(home)
    while known:
        wait_gone(known.values(), _WATCH_S, first=True)
        now = running(home)
        for name in sorted(known.keys() - now.keys()):
            say(f"{name} has ended; start it again: mpisa devnet up --home {home}")
        known = now


def running(home: Path) -> dict[str, ProcessIdentity]:
    """The running nodes: those on record, and those that somebody started by hand on a node's home."""
    found = {name: identity for name, identity in state.read_processes(home).items() if is_alive(identity)}
    manifest = state.read_manifest(home)
    for node in manifest.nodes if manifest else ():
        holder = None if node.name in found else lock_holder(node.home / NODE_LOCK)
        if holder is not None:
            found[node.name] = holder
    return found


def down(home: Path, *, grace_s: float = STOP_GRACE_S) -> Stopped:
    """End exactly the devnet's processes. Doing it again does nothing. Raises NotFound for a home without a devnet."""
    if not state.is_devnet_home(home):
        raise NotFound(f"no devnet in {home}", hint="`mpisa devnet up --home DIR` makes one")
    with state.locked(home):
        return _down(home, grace_s)


def _down(home: Path, grace_s: float) -> Stopped:
    alive = running(home)
    ended, killed = terminate(alive.values(), grace_s=grace_s)
    state.write_processes(home, {})
    manifest = state.read_manifest(home)
    names = tuple(node.name for node in manifest.nodes) if manifest else tuple(sorted(alive))
    if manifest is not None:
        state.write_json(home / state.MANIFEST, _with_pids(manifest, {}).to_json())
    return Stopped(
        ended=tuple(name for name in names if alive.get(name) in ended),
        killed=tuple(name for name in names if alive.get(name) in killed),
        already_down=tuple(name for name in names if name not in alive),
    )


def reset(home: Path, *, grace_s: float = STOP_GRACE_S) -> tuple[Stopped, tuple[str, ...]]:
    """Stop the devnet and delete what its chain and stores hold; accounts, keys, addresses and genesis stay. Where this
    version can't read the genesis, the nodes go too: `up` makes them anew, with the same accounts.

    Returns what was stopped and the names of the nodes that were emptied. Refuses a directory that `up` did not make.
    """
    if not state.is_devnet_home(home):
        raise InvalidConfig(
            f"{home} is not the home of a devnet: nothing was deleted", hint="name the DIR given to `devnet up --home`"
        )
    from devnet.genesis import discard_unfinished, empty_node, why_unreadable

    with state.locked(home):
        stopped = _down(home, grace_s)
        manifest = state.read_manifest(home)
        if manifest is None:
            discard_unfinished(home)
            return stopped, ()
        if why_unreadable(home) is not None:
            discard_unfinished(home)
            return stopped, tuple(node.name for node in manifest.nodes)
        for node in manifest.nodes:
            empty_node(node.home)
        return stopped, tuple(node.name for node in manifest.nodes)


def status(home: Path) -> tuple[Manifest, tuple[health.NodeReport, ...]]:
    """Every node's height, root and peers."""
    manifest = state.require_manifest(home)
    alive = running(home)
    reports = tuple(
        health.report(
            node.name,
            alive[node.name].pid if node.name in alive else None,
            node.name in alive,
            node.api,
            paused=node.name in alive and is_paused(alive[node.name]),
        )
        for node in manifest.nodes
    )
    return manifest, reports
