"""`mpisa node`: set up, run and look after one node."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mpisa.cli import operating, store
from mpisa.cli.commands import group
from mpisa.cli.doctor import doctor
from mpisa.cli.failures import repairable
from mpisa.cli.render import emit, emit_line, fields, hint, note, progress, size, table
from mpisa.cli.settings import current, given_passphrase
from mpisa.primitives.errors import IntegrityError, NotFound, StoreBusy, StoreDamaged, UsageError

if TYPE_CHECKING:
    from mpisa.config import PeerEntry
    from mpisa.node.runtime import Setup
    from mpisa.sdk.models import NodeInfo
    from storage.blockstore import Damage


@group("node", examples=("mpisa node status", "mpisa node run --home ./node"))
def node() -> None:
    """One node."""


for operating_command in operating.COMMANDS:
    node.add_command(operating_command)
node.add_command(store.gc)
node.add_command(doctor)


@node.command(
    "init",
    examples=(
        "mpisa node init --home ./reader --join http://127.0.0.1:8480",
        "mpisa node init --home ./node --genesis genesis.json --role validator",
    ),
)
@click.option("--name", default="node", show_default=True, help="What it calls itself.")
@click.option("--role", type=click.Choice(("follower", "validator")), default="follower", show_default=True)
@click.option("--genesis", type=click.Path(path_type=Path), help="The network's genesis document.")
@click.option("--join", metavar="URL", help="Take genesis (unless given) and peer addresses from this running node.")
@click.option("--trust", metavar="HEIGHT:HASH", help="A header known by other means, which the chain must hold.")
@click.option("--archive", is_flag=True, help="Keep every chain block; needs peers that do.")
@click.option("--api-port", type=click.IntRange(0, 65_535), default=0, help="Loopback API.  [default: a free one]")
@click.option("--peer-port", type=click.IntRange(0, 65_535), default=0, help="HTTPS peer port.  [default: a free one]")
@click.option("--libp2p-port", type=click.IntRange(0, 65_535), default=0, help="libp2p.  [default: a free one]")
@click.option("--post-quantum", is_flag=True, help="Make an ML-DSA-65 key too, to co-sign closing headers with.")
def init(
    name: str,
    role: str,
    genesis: Path | None,
    join: str | None,
    trust: str | None,
    archive: bool,
    api_port: int,
    peer_port: int,
    libp2p_port: int,
    post_quantum: bool,
) -> None:
    """Make a node's home: settings, fresh keys, the network's genesis document. Overwrites nothing."""
    from mpisa.config import ApiConfig, HistoryConfig, NodeConfig, PeerConfig, Role, parse_trust
    from mpisa.network.peer_id import peer_id_of
    from mpisa.node.home import init_home, new_keys

    if trust is not None:
        try:
            parse_trust(trust)
        except ValueError as error:
            raise UsageError(f"--trust: {error}", hint="mpisa chain head shows both at a node that you trust") from None
    text, peers = _network(genesis, join)
    home = current().home_or_default()
    config = NodeConfig(
        name=name,
        role=Role(role),
        api=ApiConfig(port=api_port),
        peer=PeerConfig(port=peer_port, libp2p_port=libp2p_port, peers=peers),
        history=HistoryConfig(archive=archive, trust=trust),
    )
    made = init_home(home, config, genesis_text=text, keys=new_keys(config.role, post_quantum=post_quantum))
    peer_id = peer_id_of(made.read_key("node").public_key.data)
    data = {"name": name, "role": role, "home": str(home), "peer_id": peer_id, "config": str(made.config_file)}
    emit(data, lambda: fields(data))
    hint(f"run it: mpisa node run --home {home}")


def _network(genesis: Path | None, join: str | None) -> tuple[str, tuple[PeerEntry, ...]]:
    """The genesis document and whom to meet first."""
    if genesis is None and join is None:
        raise UsageError("a node belongs to a network", hint="give --join URL of a running node, or --genesis FILE")
    text = None
    if genesis is not None:
        if not genesis.is_file():
            raise NotFound(f"no such file: {genesis}", hint="--genesis takes the network's genesis.json")
        text = genesis.read_text(encoding="utf-8")
    if join is None:
        assert text is not None
        return text, ()
    with current().client(endpoint=join) as client:
        info = client.node()
        if text is None:
            document = client.genesis()
            note(f"trusting {join} for the genesis document, hash {document.hash}; compare it with one you trust")
            text = document.document
    return text, (_entry(info),)


def _entry(info: NodeInfo) -> PeerEntry:
    from mpisa.config import PeerEntry

    return PeerEntry(info.peer_id, tuple(a.partition("/p2p/")[0] for a in info.listen), info.peer_url or None)


@node.command("run", examples=("mpisa node run --home ./node",))
def run() -> None:
    """Run the node of a home in the foreground until Ctrl-C or SIGTERM."""
    home = current().home_or_default()
    if not (home / "config.toml").exists():
        raise NotFound(f"no node in {home}", hint=f"make one: mpisa node init --home {home}, or mpisa devnet up")
    note(f"starting the node of {home}; Ctrl-C stops it")
    from mpisa.cli.serve import serve_node

    serve_node(home, lambda url: emit_line({"api": url, "home": str(home)}, f"serving on {url}"))


@node.command("status", examples=("mpisa node status", "mpisa node status --endpoint http://127.0.0.1:8480 --json"))
def status() -> None:
    """What a running node says of itself."""
    with current().client() as client:
        info = client.node()
    emit(info.to_dict(), lambda: fields(info.to_dict()))


@node.command("peers", examples=("mpisa node peers", "mpisa node peers --json"))
def peers() -> None:
    """Whom a running node is connected to."""
    with current().client() as client:
        found = client.peers()
    rows = [(peer.peer_id, peer.authority, ", ".join(peer.addresses)) for peer in found]
    emit({"peers": [peer.to_dict() for peer in found]}, lambda: table(rows, ("peer id", "authority", "addresses")))


@contextmanager
def stopped_node() -> Iterator[Setup]:
    """The settings of a home whose node doesn't run, held so that none can start meanwhile."""
    from mpisa.node.home import HomeLock
    from mpisa.node.runtime import read_setup

    home = current().home_or_default()
    if not (home / "config.toml").exists():
        raise NotFound(f"no node in {home}", hint="--home names a node's directory (of a devnet: HOME/node1)")
    setup = read_setup(home, given_passphrase())
    with HomeLock(setup.home):
        yield setup


def _damages(damages: Iterable[Damage]) -> list[dict[str, object]]:
    return [{"file": d.file, "offset": d.offset, "cid": d.cid and str(d.cid), "reason": d.reason} for d in damages]


@node.command("verify", examples=("mpisa node verify", "mpisa node verify --home ~/.mpisa/node1 --json"))
def verify() -> None:
    """Hash all blocks again. Exit code 5 when something is damaged.

    A running node does it beside its work. Of a stopped one every other store is read whole too.
    """
    home = current().home_or_default()
    if current().endpoint is not None or not (home / "config.toml").exists() or _runs(home):
        _verify_running(home)
    else:
        _verify_stopped()


def _runs(home: Path) -> bool:
    from mpisa.node.home import Home, HomeLock

    try:
        with HomeLock(Home(home)):
            return False
    except StoreBusy:
        return True


def _verify_running(home: Path) -> None:
    with current().client() as client, progress("verify", None) as advance:
        report = client.verify_store(progress=advance)
    emit(
        report.to_dict(),
        lambda: f"{report.blocks} blocks, {size(report.bytes_hashed)} hashed, {report.damaged} damaged",
    )
    if report.damages:
        first = report.damages[0]
        raise IntegrityError(
            f"{report.damaged} damaged places, the first in {first.file} at byte {first.offset}: {first.reason}",
            hint=f"stop the node, then mpisa node repair --home {home}",
        )
    note("stop the node to read its ledger, vertices and pins whole too")


def _verify_stopped() -> None:
    from mpisa.node.upkeep import check
    from storage.packs import DiskBlockStore

    with stopped_node() as setup:
        findings = check(setup)
        try:
            store = DiskBlockStore.open(setup.home.blocks)
        except StoreDamaged as error:
            raise repairable(error, setup.home.path) from None
        try:
            total = store.stats().bytes_used
            with progress("verify", total) as advance:
                report = store.verify(lambda done: advance(done, total))
        finally:
            store.close()
    data = {
        "blocks": report.blocks,
        "bytes_hashed": report.bytes_hashed,
        "damaged": report.damaged,
        "damages": _damages(report.damages),
        "stores": [{"store": found.store, "damage": found.damage} for found in findings],
    }
    emit(data, lambda: f"{report.blocks} blocks, {size(report.bytes_hashed)} hashed, {report.damaged} damaged")
    hint_to_repair = f"mpisa node repair --home {setup.home.path}"
    if findings:
        raise IntegrityError("; ".join(f"{found.store}: {found.damage}" for found in findings), hint=hint_to_repair)
    if not report.intact:
        first = report.damages[0]
        raise IntegrityError(
            f"{report.damaged} damaged places, the first in {first.file} at byte {first.offset}: {first.reason}",
            hint=hint_to_repair,
        )
    note("ledger, vertices and pins are whole")


@node.command("repair", examples=("mpisa node repair --home ./node",))
def repair() -> None:
    """Mend a stopped node's stores: damage is set aside, never deleted, and what can be made again is made again."""
    from mpisa.node.clock import SystemClock
    from mpisa.node.upkeep import repair as repair_databases
    from storage.packs import repair_store

    with stopped_node() as setup:
        mendings = repair_databases(setup, SystemClock().now_ms())
        report = repair_store(setup.home.blocks)
    data = {
        "kept": report.kept,
        "lost": [str(cid) for cid in report.lost],
        "quarantined": _damages(report.quarantined),
        "stores": [{"store": item.store, "damage": item.damage, "done": item.done} for item in mendings],
    }
    lines = [f"{item.store}: {item.done}" for item in mendings]
    lines.append(f"{report.kept} blocks kept, {len(report.lost)} lost, {len(report.quarantined)} places set aside")
    emit(data, lambda: "\n".join(lines))
    if report.lost:
        hint("the network may still have them: mpisa blob pin CID, once the node runs")
