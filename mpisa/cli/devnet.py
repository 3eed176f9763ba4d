"""`mpisa devnet`: a network of validators on this machine."""

from __future__ import annotations

import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpisa.cli.commands import group
from mpisa.cli.render import emit, hint, note, plain, table
from mpisa.cli.settings import current

if TYPE_CHECKING:
    from devnet.cluster import Stopped
    from devnet.launch import Serve
    from devnet.state import Manifest


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
    """Each node's height, state root and peers."""
    from devnet import cluster

    manifest, reports = cluster.status(current().home_or_default())
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
                "reasons": list(report.reasons),
            }
            for report in reports
        ],
    }
    rows = [
        (
            report.name,
            "ready" if report.ready else "starting" if report.running else "down",
            report.pid,
            report.height,
            (report.state_root or "-")[:16],
            report.peers,
            report.api,
        )
        for report in reports
    ]
    emit(data, lambda: table(rows, ("node", "state", "pid", "height", "state root", "peers", "url")))
    if not all(report.running for report in reports):
        hint(f"start the rest: mpisa devnet up --detach --home {manifest.home}")


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
