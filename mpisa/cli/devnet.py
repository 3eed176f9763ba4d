"""`mpisa devnet`: a network of validators on this machine."""

from __future__ import annotations

import gc
import secrets
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpisa.cli.commands import Group, group
from mpisa.cli.render import emit, hint, note, plain, table
from mpisa.cli.settings import current
from mpisa.primitives.errors import IntegrityError, NotReady

if TYPE_CHECKING:
    from devnet.cluster import Stopped
    from devnet.faults import Told
    from devnet.health import NodeReport
    from devnet.launch import Serve
    from devnet.state import Manifest


HEALED_S = 10.0


@group("devnet", examples=("mpisa devnet up", "mpisa devnet status", "mpisa devnet down"))
def devnet() -> None:
    """A network of validators on this machine: real processes, real libp2p, one command."""


def _serve() -> Serve:
    gc.disable()  # see devnet.launch.prepare_to_fork
    from mpisa.cli.serve import preload, serve_forked

    preload()
    return serve_forked


@devnet.command(
    "up",
    examples=(
        "mpisa devnet up",
        "mpisa devnet up --nodes 7 --home /tmp/seven --detach --json",
        "mpisa devnet up --base-port 9000",
    ),
)
@click.option("--nodes", type=int, help="Validators.  [default: 4]")
@click.option("--accounts", type=int, help="Funded accounts: alice, bob, carol, ...  [default: 3]")
@click.option("--chain-id", help="Name of the chain.  [default: mpisa-devnet]")
@click.option("--base-port", type=int, help="First of the ports to use, in a row; free ones unless asked for.")
@click.option("--seed", help="Make every key reproducible; anyone who knows the seed has them all.")
@click.option("--faucet/--no-faucet", default=None, help="Whether accounts may draw coins.  [default: on]")
@click.option("--detach", "-d", is_flag=True, help="Return when all nodes are ready, and leave them running.")
def up(detach: bool, **asked: Any) -> None:
    """Start a devnet, or whatever of it is not running, and wait until every node is ready.

    Without --detach it stays in the foreground and Ctrl-C stops all nodes.
    """
    from devnet import cluster
    from devnet.plan import Plan

    home = current().home_or_default()
    signal.signal(signal.SIGTERM, _interrupt)
    outcome = cluster.up(home, Plan(**asked), _serve, note)
    if not outcome.started:
        note(f"all {len(outcome.running)} nodes of {home} run already")
        emit(outcome.manifest.announcement(), lambda: _announce(outcome.manifest))
        return
    note(f"{len(outcome.started)} nodes ready in {outcome.seconds:.1f} s")
    try:
        emit(outcome.manifest.announcement(), lambda: _announce(outcome.manifest))
        sys.stdout.flush()
        if detach:
            hint(f"stop it: mpisa devnet down --home {home}")
            return
        note("Ctrl-C stops all nodes")
        cluster.attend(home, note)
    finally:
        if not detach:
            note(_stopped_text(cluster.down(home)))


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _announce(manifest: Manifest) -> str:
    nodes = [(n.name, n.api, n.peer_id, n.pid) for n in manifest.nodes]
    accounts = [(a.name, a.address, a.key_file) for a in manifest.accounts]
    return "\n".join(
        (
            f"devnet {manifest.chain_id} in {manifest.home}",
            "",
            table(nodes, ("node", "url", "peer id", "pid")),
            "",
            table(accounts, ("account", "address", "key file")),
        )
    )


@devnet.command("down", examples=("mpisa devnet down", "mpisa devnet down --home /tmp/seven --json"))
def down() -> None:
    """Stop exactly the processes of this devnet; what they stored stays."""
    from devnet import cluster

    stopped = cluster.down(current().home_or_default())
    emit(_stopped_json(stopped), lambda: _stopped_text(stopped))


def _stopped_json(stopped: Stopped) -> dict[str, list[str]]:
    return {
        "ended": list(stopped.ended),
        "killed": list(stopped.killed),
        "already_down": list(stopped.already_down),
    }


def _stopped_text(stopped: Stopped) -> str:
    parts = (
        ("stopped", stopped.ended),
        ("killed after it did not stop", stopped.killed),
        ("was not running", stopped.already_down),
    )
    return "\n".join(f"{what}: {', '.join(names)}" for what, names in parts if names) or "nothing was running"


@devnet.command("status", examples=("mpisa devnet status", "mpisa devnet status --json"))
def status() -> None:
    """Each node's height, state root and peers, what is wrong with it, and the faults in force."""
    from devnet import cluster, faults

    manifest, reports = cluster.status(current().home_or_default())
    wrong = {item.name: item for item in faults.faults(manifest.home)}
    by_name = {node.name: node for node in manifest.nodes}
    data = {
        "chain_id": manifest.chain_id,
        "home": str(manifest.home),
        "nodes": [
            {
                "name": report.name,
                "api": report.api,
                "peer_id": by_name[report.name].peer_id,
                "pid": report.pid,
                "authority": by_name[report.name].authority,
                "running": report.running,
                "ready": report.ready,
                "height": report.height,
                "ordered_height": report.ordered_height,
                "state_root": report.state_root,
                "peers": report.peers,
                "state": _state_word(report),
                "reasons": list(report.reasons),
                "faults": list(wrong[report.name].words()),
            }
            for report in reports
        ],
    }
    rows = [
        (
            report.name,
            _state_word(report),
            report.pid,
            report.height,
            (report.state_root or "-")[:16],
            report.peers,
            report.api,
        )
        for report in reports
    ]
    emit(data, lambda: table(rows, ("node", "state", "pid", "height", "state root", "peers", "url")))
    for report in reports:
        if report.running and not report.ready:
            note(f"{report.name}: {'; '.join(report.reasons)}")
        for words in wrong[report.name].words():
            note(f"{report.name}: fault: {words}")
    if any(item.paused or item.links for item in wrong.values()):
        hint(f"undo the faults: mpisa devnet heal --home {manifest.home}")
    if not all(report.running for report in reports):
        hint(f"start the rest: mpisa devnet up --detach --home {manifest.home}")


def _state_word(report: NodeReport) -> str:
    if not report.running:
        return "down"
    if report.paused:
        return "paused"
    if report.ready:
        return "ready"
    return report.trouble or "starting"


@devnet.command("logs", examples=("mpisa devnet logs node2", "mpisa devnet logs -f"))
@click.argument("name", required=False, metavar="[NODE]")
@click.option("--follow", "-f", is_flag=True, help="Go on as the log grows, until Ctrl-C.")
@click.option(
    "--lines", "-n", type=click.IntRange(0, 100_000), default=50, show_default=True, help="Last lines of each."
)
def logs(name: str | None, follow: bool, lines: int) -> None:
    """The end of the nodes' logs; of one node, or of all."""
    from devnet import logs as devnet_logs

    home = current().home_or_default()
    for node, line in devnet_logs.read(home, name, lines, follow=follow):
        if current().json:
            emit({"node": node, "line": line})
        else:
            print(line if name else f"{node}  {line}", flush=follow)


@devnet.group("fault", cls=Group, examples=("mpisa devnet fault partition node4", "mpisa devnet fault kill node2"))
def fault() -> None:
    """Break something on purpose, and see what the network makes of it; `heal` undoes it.

    Broken links last until they are healed or until the node that breaks them ends. What nodes are told adds up. Exit
    code 6: some node couldn't be told (paused, or down); the error names it, the others did what was asked.
    """


_NODES = click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
_FROM = click.option(
    "--from", "others", multiple=True, metavar="NODE", help="Only the links with this node; repeatable.  [default: all]"
)


@fault.command(
    "partition",
    examples=(
        "mpisa devnet fault partition node3 node4",
        "mpisa devnet fault partition node1 --from node2 --one-way --json",
    ),
)
@_NODES
@_FROM
@click.option("--one-way", is_flag=True, help="Only what the named nodes send gets lost; they still hear the others.")
def partition(nodes: tuple[str, ...], others: tuple[str, ...], one_way: bool) -> None:
    """Cut the named nodes off from all the others: connections are closed, new ones refused, in both directions."""
    from devnet import faults

    told = faults.partition(current().home_or_default(), nodes, others, one_way=one_way)
    _report_fault("partition", nodes, told)


@fault.command(
    "delay",
    examples=(
        "mpisa devnet fault delay 100 node2",
        "mpisa devnet fault delay 50 node1 --jitter 20 --from node2 --json",
    ),
)
@click.argument("milliseconds", type=click.IntRange(0, 60_000), metavar="MS")
@_NODES
@_FROM
@click.option(
    "--jitter", type=click.IntRange(0, 60_000), default=0, metavar="MS", help="Up to so much more, at random."
)
def delay(milliseconds: int, nodes: tuple[str, ...], others: tuple[str, ...], jitter: int) -> None:
    """Hold back what passes between the named nodes and the others, by so many milliseconds each way."""
    from devnet import faults

    _report_fault("delay", nodes, faults.delay(current().home_or_default(), nodes, others, milliseconds, jitter))


@fault.command(
    "drop", examples=("mpisa devnet fault drop 20 node2", "mpisa devnet fault drop 5 node1 --from node2 --json")
)
@click.argument("percent", type=click.IntRange(0, 100), metavar="PERCENT")
@_NODES
@_FROM
def drop(percent: int, nodes: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Lose a share of what passes between the named nodes and the others, each way."""
    from devnet import faults

    _report_fault("drop", nodes, faults.drop(current().home_or_default(), nodes, others, percent))


@fault.command("kill", examples=("mpisa devnet fault kill node4", "mpisa devnet fault kill node1 node2 --json"))
@_NODES
def kill(nodes: tuple[str, ...]) -> None:
    """End nodes by SIGKILL, as a power cut would; `heal` starts them again."""
    from devnet import faults

    _report_fault("kill", nodes, faults.kill(current().home_or_default(), nodes))


@fault.command("pause", examples=("mpisa devnet fault pause node4", "mpisa devnet fault pause node1 node2 --json"))
@_NODES
def pause(nodes: tuple[str, ...]) -> None:
    """Make nodes stand still by SIGSTOP, connections and all; `heal` lets them go on."""
    from devnet import faults

    _report_fault("pause", nodes, faults.pause(current().home_or_default(), nodes))


def _report_fault(kind: str, nodes: tuple[str, ...], told: Told) -> None:
    """Print what was done. Raises NotReady where some node that was to take part doesn't listen."""
    emit(
        {"fault": kind, "nodes": list(nodes), "told": list(told.told), "silent": list(told.silent)},
        lambda: f"{kind}: told {', '.join(told.told) or 'nobody'}",
    )
    home = current().home_or_default()
    hint(f"undo it: mpisa devnet heal --home {home}")
    if told.silent:
        raise NotReady(
            f"{kind}: {', '.join(told.silent)} can't be told: paused, or not running",
            hint=f"see how they are: mpisa devnet status --home {home}",
        )


@devnet.command("heal", examples=("mpisa devnet heal", "mpisa devnet heal node3 --json"))
@click.argument("nodes", nargs=-1, metavar="[NODE...]")
def heal(nodes: tuple[str, ...]) -> None:
    """Undo every fault of the named nodes, or all: links are whole, paused nodes go on, those that are down start.

    Returns when they are ready, or after ten seconds: a node whose quorum is still broken can't be.
    """
    from devnet import faults

    home = current().home_or_default()
    healed = faults.heal(home, nodes, _serve, note)
    waiting = faults.await_ready(home, nodes, HEALED_S)
    data = {"resumed": list(healed.resumed), "started": list(healed.started), "links": list(healed.links)}
    text = "\n".join(f"{what}: {', '.join(who)}" for what, who in data.items() if who) or "nothing to heal"
    emit(data | {"waiting": list(waiting)}, text)
    if waiting:
        note(f"not ready yet: {', '.join(waiting)}")
        hint(f"see why: mpisa devnet status --home {home}")


@devnet.command(
    "chaos",
    examples=(
        "mpisa devnet chaos --minutes 2 --seed 7",
        "mpisa devnet chaos --home /tmp/net --write docs/chaos.md --json",
    ),
)
@click.option("--minutes", type=click.FloatRange(0.1, 24 * 60), default=30.0, show_default=True, help="How long.")
@click.option("--seed", type=click.IntRange(0, 2**32), help="Which faults come, in which order.  [default: drawn]")
@click.option(
    "--write", "report", type=click.Path(path_type=Path, dir_okay=False), help="Add the summary to this page."
)
@click.option("--fixed-set", is_flag=True, help="Leave the validators as they are: no epoch ends.")
def chaos(minutes: float, seed: int | None, report: Path | None, fixed_set: bool) -> None:
    """Random faults under load, one after the other, and a checker behind them.

    Validators come, go, and change power and keys meanwhile. Every transaction that some node called certified must be
    applied on every node exactly once, all nodes must hold the same blocks and states and be in one epoch, and none may
    halt or stay behind. Exit code 5 when one of these fails. The devnet is
    made where there is none, and runs on afterwards.
    """
    from devnet import chaos as runs
    from devnet.chaos_report import append, text

    number = secrets.randbelow(2**32) if seed is None else seed
    option = " --fixed-set" if fixed_set else ""
    note(f"seed {number}: mpisa devnet chaos --minutes {minutes:g} --seed {number}{option}")
    summary = runs.run(current().home_or_default(), minutes, number, _serve, note, is_fixed_set=fixed_set)
    if report is not None:
        append(report, summary)
    emit(summary.to_json(), lambda: text(summary))
    if not summary.passed:
        raise IntegrityError(
            f"chaos with seed {number} found something wrong",
            hint=f"the nodes' logs are in {current().home_or_default()}",
        )


@devnet.command("reset", examples=("mpisa devnet reset", "mpisa devnet reset --home /tmp/seven"))
def reset() -> None:
    """Stop the devnet and delete its chain and stored blocks; accounts, keys and addresses stay.

    Only a directory that `mpisa devnet up` made is touched.
    """
    from devnet import cluster

    home: Path = current().home_or_default()
    stopped, emptied = cluster.reset(home)
    data = _stopped_json(stopped) | {"emptied": list(emptied)}
    emit(data, lambda: f"{_stopped_text(stopped)}\nemptied: {plain(', '.join(emptied)) or 'nothing'}")
    hint(f"start anew: mpisa devnet up --home {home}")
