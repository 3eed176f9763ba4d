"""Faults between running nodes, asked for by a person or by `chaos`: cut, delayed and lossy links, killed and paused
processes.

Links are broken by the nodes themselves: each is told over its loopback API what to do to which peers (`GET` and `PUT
/v1/devnet/faults`, the write with the node's token), so nothing has to be started in a special way and nobody needs
root. Rules add up until they are healed; a node that ends forgets its own. What a node can't be told (it is paused, or
down) is named in the outcome: a cut works from either side alone, delay and loss only from the sender's.
"""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from devnet import cluster, health, state
from devnet.launch import Serve
from devnet.plan import Say
from devnet.process import ProcessIdentity, is_paused, send_signal, wait_gone
from devnet.state import DevnetNode, Manifest
from mpisa.primitives.errors import NotFound, NotReady, UsageError

ROUTE = "/v1/devnet/faults"
TELL_TIMEOUT_S = 5.0
KILL_S = 10.0
READY_S = 30.0
POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Rule:
    """What a node does to its link with a peer."""

    peer_id: str
    cut: bool = False
    delay_ms: int = 0
    jitter_ms: int = 0
    drop_percent: int = 0

    def to_json(self) -> dict[str, Any]:
        """As the API takes it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def breaks(self) -> bool:
        """Whether it does anything."""
        return self.cut or bool(self.delay_ms or self.jitter_ms or self.drop_percent)


@dataclass(frozen=True, slots=True)
class NodeFaults:
    """What is wrong with a node on purpose: its process, and its links by the other node's name."""

    name: str
    down: bool
    paused: bool
    links: tuple[tuple[str, Rule], ...]

    def words(self) -> tuple[str, ...]:
        """For people."""
        found = ["paused"] if self.paused else []
        for other, rule in self.links:
            parts = ["cut"] if rule.cut else []
            if rule.delay_ms or rule.jitter_ms:
                parts.append(f"{rule.delay_ms} ms" + (f" + up to {rule.jitter_ms} ms" if rule.jitter_ms else ""))
            if rule.drop_percent:
                parts.append(f"drops {rule.drop_percent}%")
            found.append(f"to {other}: {', '.join(parts)}")
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Told:
    """Whom a fault was asked of, and who couldn't be asked."""

    told: tuple[str, ...]
    silent: tuple[str, ...]


def partition(home: Path, names: Sequence[str], others: Sequence[str], *, one_way: bool = False) -> Told:
    """Cut the named nodes off from `others` (none given: from all the rest), in both directions. With `one_way` what
    they send them gets lost, and what they hear stays.
    """
    if one_way:
        return _change(home, _links(home, names, others, both=False), lambda rule: replace(rule, drop_percent=100))
    return _change(home, _links(home, names, others, both=True), lambda rule: replace(rule, cut=True))


def delay(home: Path, names: Sequence[str], others: Sequence[str], milliseconds: int, jitter: int) -> Told:
    """Hold back what passes between the named nodes and `others` (none given: all), in both directions."""
    links = _links(home, names, others, both=True)
    return _change(home, links, lambda rule: replace(rule, delay_ms=milliseconds, jitter_ms=jitter))


def drop(home: Path, names: Sequence[str], others: Sequence[str], percent: int) -> Told:
    """Lose a share of what passes between the named nodes and `others` (none given: all), in both directions."""
    return _change(home, _links(home, names, others, both=True), lambda rule: replace(rule, drop_percent=percent))


def kill(home: Path, names: Sequence[str]) -> Told:
    """SIGKILL; done when they are gone."""
    gone = _signal(home, names, signal.SIGKILL)
    wait_gone(gone.values(), KILL_S)
    return Told(tuple(gone), tuple(name for name in names if name not in gone))


def pause(home: Path, names: Sequence[str]) -> Told:
    """SIGSTOP; done when they stand still."""
    stopped = _signal(home, names, signal.SIGSTOP)
    deadline = time.monotonic() + KILL_S
    while not all(map(is_paused, stopped.values())) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    return Told(tuple(stopped), tuple(name for name in names if name not in stopped))


@dataclass(frozen=True, slots=True)
class Healed:
    """What `heal` did, by node: went on after a pause, started again, links healed (its own, or others' to it)."""

    resumed: tuple[str, ...]
    started: tuple[str, ...]
    links: tuple[str, ...]


def heal(home: Path, names: Sequence[str], serve: Callable[[], Serve], say: Say) -> Healed:
    """Undo every fault that concerns the named nodes (none given: all): paused ones go on, their links are whole,
    those that are down are started. Returns when what was started answers.
    """
    manifest = state.require_manifest(home)
    nodes = _named(manifest, names) if names else manifest.nodes
    alive = cluster.running(home)
    resumed = tuple(node.name for node in nodes if node.name in alive and is_paused(alive[node.name]))
    for name in resumed:
        send_signal(alive[name], signal.SIGCONT)
    links = mend(home, [node.name for node in nodes])
    absent = tuple(node.name for node in nodes if node.name not in alive)
    if absent:
        cluster.start(home, absent, serve, say, READY_S)
    return Healed(resumed, absent, links)


def await_ready(home: Path, names: Sequence[str], patience_s: float) -> tuple[str, ...]:
    """Wait until the named nodes (none given: all) are ready; those that aren't by then may lack the others."""
    manifest = state.require_manifest(home)
    waiting = list(_named(manifest, names) if names else manifest.nodes)
    deadline = time.monotonic() + patience_s
    while waiting and time.monotonic() < deadline:
        waiting = [node for node in waiting if not health.health(node.api).ready]
        time.sleep(POLL_S if waiting else 0)
    return tuple(node.name for node in waiting)


def mend(home: Path, names: Sequence[str]) -> tuple[str, ...]:
    """Heal the links of the named nodes, on both sides; returns which nodes had rules that are gone now."""
    manifest = state.require_manifest(home)
    concerned = {node.peer_id for node in _named(manifest, names)}
    changed = []
    for node in _listening(home, manifest):
        rules = read_rules(node)
        is_all = node.peer_id in concerned
        kept = [] if is_all else [rule for rule in rules if rule.peer_id not in concerned]
        if len(kept) != len(rules):
            write_rules(node, kept)
            changed.append(node.name)
    return tuple(changed)


def faults(home: Path) -> tuple[NodeFaults, ...]:
    """What is wrong on purpose, node by node. A node that doesn't answer shows none of its links."""
    manifest = state.require_manifest(home)
    names = {node.peer_id: node.name for node in manifest.nodes}
    alive = cluster.running(home)
    found = []
    for node in manifest.nodes:
        paused = node.name in alive and is_paused(alive[node.name])
        answer = health.ask(node.api, ROUTE) if node.name in alive and not paused else None
        rules = () if answer is None or answer[0] != 200 else _rules(answer[1])
        links = tuple((names.get(rule.peer_id, rule.peer_id), rule) for rule in rules)
        found.append(NodeFaults(node.name, node.name not in alive, paused, links))
    return tuple(found)


def read_rules(node: DevnetNode) -> tuple[Rule, ...]:
    """Raises NotReady where the node doesn't say."""
    answer = health.ask(node.api, ROUTE, timeout_s=TELL_TIMEOUT_S)
    if answer is not None and answer[0] == 404:
        raise NotReady(
            f"{node.name} takes no faults: its settings don't say that it is a devnet's node",
            hint=f"add the line `devnet = true` on top of {node.home / 'config.toml'} and start it again",
        )
    if answer is None or answer[0] != 200:
        raise NotReady(f"{node.name} doesn't answer at {node.api}", hint="see how it is: mpisa devnet status")
    return _rules(answer[1])


def write_rules(node: DevnetNode, rules: Iterable[Rule]) -> None:
    """These and no others. Raises NotReady where the node doesn't take them."""
    body = {"faults": [rule.to_json() for rule in rules if rule.breaks]}
    address = urlsplit(node.api)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=TELL_TIMEOUT_S)
    try:
        token = (node.home / "api.token").read_text(encoding="ascii").strip()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        connection.request("PUT", ROUTE, json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read(health.MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        raise NotReady(f"{node.name} can't be told: {error}", hint="see how it is: mpisa devnet status") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise NotReady(f"{node.name} refused the faults: {answer.status} {text.decode(errors='replace')[:300]}")


def _rules(body: dict[str, Any]) -> tuple[Rule, ...]:
    return tuple(Rule(**item) for item in body.get("faults", ()))


def _named(manifest: Manifest, names: Iterable[str]) -> tuple[DevnetNode, ...]:
    """The nodes of these names, in the devnet's order. Raises NotFound."""
    known = {node.name: node for node in manifest.nodes}
    asked = list(names)
    for name in asked:
        if name not in known:
            raise NotFound(
                f"the devnet in {manifest.home} has no node named {name!r}", hint=f"its nodes: {', '.join(known)}"
            )
    return tuple(node for node in manifest.nodes if node.name in asked)


def _links(
    home: Path, names: Sequence[str], others: Sequence[str], *, both: bool
) -> list[tuple[DevnetNode, DevnetNode]]:
    """Pairs (who applies a rule, to the link with whom)."""
    manifest = state.require_manifest(home)
    near = _named(manifest, names)
    far = _named(manifest, others) if others else tuple(node for node in manifest.nodes if node not in near)
    pairs = [(one, other) for one in near for other in far if one is not other]
    if not pairs:
        raise UsageError(
            f"no link between {', '.join(names)} and {', '.join(others) or 'the rest'}",
            hint="name fewer nodes, or name the other side with --from",
        )
    return pairs + ([(other, one) for one, other in pairs] if both else [])


def _listening(home: Path, manifest: Manifest) -> list[DevnetNode]:
    alive = cluster.running(home)
    return [node for node in manifest.nodes if node.name in alive and not is_paused(alive[node.name])]


def _change(home: Path, links: Sequence[tuple[DevnetNode, DevnetNode]], change: Callable[[Rule], Rule]) -> Told:
    listening = {node.name for node in _listening(home, state.require_manifest(home))}
    nodes = {node.name: node for node, _ in links}
    for name in [name for name in nodes if name in listening]:
        rules = {rule.peer_id: rule for rule in read_rules(nodes[name])}
        for node, other in links:
            if node.name == name:
                rules[other.peer_id] = change(rules.get(other.peer_id, Rule(other.peer_id)))
        write_rules(nodes[name], rules.values())
    return Told(
        tuple(name for name in nodes if name in listening), tuple(name for name in nodes if name not in listening)
    )


def _signal(home: Path, names: Sequence[str], number: int) -> dict[str, ProcessIdentity]:
    alive = cluster.running(home)
    nodes = _named(state.require_manifest(home), names)
    return {
        node.name: alive[node.name] for node in nodes if node.name in alive and send_signal(alive[node.name], number)
    }
