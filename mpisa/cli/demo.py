"""`mpisa demo`: a real model's trip through four validators, every step checked; leaves nothing running."""

from __future__ import annotations

import filecmp
import hashlib
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import Any

import click

from mpisa.cli import demo_model
from mpisa.cli.commands import command
from mpisa.cli.render import emit, size
from mpisa.cli.settings import current
from mpisa.cli.walk import Walk, wait_for

REJOIN_TIMEOUT_S = 60.0
NAME = "alice/file-types"
_FETCHED, _PROVIDED = "mpisa_network_blocks_fetched_total", "mpisa_network_provides_total"
ANNOUNCED_TIMEOUT_S = 20.0


@command("demo", examples=("mpisa demo", "mpisa demo --model ./my-model", "mpisa demo --json"))
@click.option(
    "--model",
    type=click.Path(path_type=Path),
    help="A directory with weights, card and licence.  [default: the model that PyPI's magika ships]",
)
@click.option("--keep", is_flag=True, help="Keep the temporary home afterwards; nothing is left running.")
def demo(model: Path | None, keep: bool) -> None:
    """Start four validators here, walk a real model through them, check every step, stop them again."""
    workspace = Path(tempfile.mkdtemp(prefix="mpisa-demo-"))
    walk = Walk(workspace / "devnet", quiet=current().json)
    signal.signal(signal.SIGTERM, _interrupt)
    walk.say("A network of four validators, and a real model that travels through all of it.")
    complete = False
    try:
        _walk(walk, demo_model.prepare(model, workspace), workspace)
        complete = True
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must not leave validators behind
        _stop(walk)
        if complete and not keep:
            shutil.rmtree(workspace, ignore_errors=True)
        else:
            walk.say(f"kept for a look: {workspace}")
    emit({"passed": walk.passed}, f"\nAll {len(walk.passed)} checks passed; nothing is left running.")
    if not current().json:
        print(_NEXT)


_NEXT = """
What next:
   mpisa devnet up --detach                 your own four validators; `mpisa devnet down` stops them
   mpisa publish ./my-model --name alice/my-model@v1
   mpisa --help                             everything else

From Python:
   from mpisa import Client

   with Client() as client:
       stored = client.publish("./my-model", key="alice", name="alice/my-model@v1")
       client.get(stored.cid, "./copy")     # every block is hashed on your side
       print(client.verify(stored.cid))     # certificate and state proof, checked on your side
"""


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _stop(walk: Walk) -> None:
    from devnet import cluster, state

    if state.is_devnet_home(walk.home):
        stopped = cluster.down(walk.home)
        walk.say(f"\nstopped: {', '.join((*stopped.ended, *stopped.killed)) or 'nothing was running'}")


def _walk(walk: Walk, model: demo_model.DemoModel, workspace: Path) -> None:
    network = _start(walk)
    apis = [node["api"] for node in network["nodes"]]
    first = _publish(walk, model, apis[0])
    _get(walk, model.path, first["cid"], apis[0], apis[2], workspace / "copy")
    _verify(walk, first, apis[3])
    _kill_and_rejoin(walk, model, first["cid"])


def _start(walk: Walk) -> Any:
    walk.step(1, "Four validators on this machine")
    network = walk.mpisa("devnet", "up", "--nodes", "4", "--detach")
    for node in network["nodes"]:
        walk.show({node["name"]: f"{node['api']}  pid {node['pid']}  peer {node['peer_id']}"})
    for account in network["accounts"]:
        walk.show({account["name"]: f"{account['address']}  key {account['key_file']}"})
    walk.check(len(network["nodes"]) == 4, "four validators are ready, each a process of its own")
    head = walk.mpisa("chain", "head")
    walk.check(head["chain_id"] == network["chain_id"], f"the chain {head['chain_id']} is at height {head['height']}")
    return network


def _publish(walk: Walk, model: demo_model.DemoModel, api: str) -> Any:
    walk.step(2, f"Publish a real model through node 1: {model.origin}")
    for file in sorted(model.path.rglob("*")):
        if file.is_file():
            walk.show({file.name: size(file.stat().st_size)})
    licence = ("--license", model.license) if model.license else ()
    published = walk.mpisa("publish", str(model.path), "--endpoint", api, "--name", f"{NAME}@v1", *licence)
    walk.show(published)
    walk.check(published["certified"] is True, "a quorum executed the chain block and signed its header")
    own = walk.mpisa("blob", "cid", str(model.path))
    walk.check(own["cid"] == published["cid"], "the CID is the one computed here from the files", own["cid"])
    block = walk.mpisa("chain", "block", str(published["height"]))
    walk.show({"chain block": block["hash"], "certificate": f"{len(block['certificate'] or '') // 2} bytes"})
    walk.check(bool(block["certificate"]), f"chain block {published['height']} carries its certificate")
    outcome = [r["status"] for r in block["receipts"] if r["tx"] == published["tx"]]
    walk.check(outcome == ["applied"], "the transaction is in it, applied, once", outcome)
    return published


def _get(walk: Walk, original: Path, cid: str, publisher: str, api: str, copy: Path) -> None:
    walk.step(3, "Get it from node 3, which never had it")
    before = _metrics(api)
    got = walk.mpisa("get", cid, "--endpoint", api, "-o", str(copy))
    walk.show({"blocks": got["blocks"], "bytes": size(got["size"])})
    risen = {name: value - before.get(name, 0) for name, value in _metrics(api).items()}
    walk.check(risen.get(_FETCHED) == got["blocks"], f"all {got['blocks']} blocks came to node 3 from peers", risen)
    provided = wait_for(lambda: _metrics(publisher).get(_PROVIDED) or None, ANNOUNCED_TIMEOUT_S, "the DHT record")
    walk.check(provided >= 1, "and node 1 is in the DHT as its provider, for nodes that aren't connected to it")
    walk.check(got["blocks"] > 0, "each block was hashed against its CID, by node 3 and again here")
    same = _same_tree(original, copy)
    walk.check(same == [], "every file is byte-identical to the original", same)
    walk.check(_digest(original) == _digest(copy), f"sha256 over all files: {_digest(copy)[:32]}...")


def _metrics(api: str) -> dict[str, float]:
    import urllib.request

    with urllib.request.urlopen(f"{api}/metrics", timeout=5) as answer:  # noqa: S310 - our own loopback address
        lines = answer.read(1 << 20).decode().splitlines()
    found: dict[str, float] = {}
    for line in lines:
        name, _, value = line.rpartition(" ")
        if name and not line.startswith("#"):
            found[name] = float(value)
    return found


def _verify(walk: Walk, published: Any, api: str) -> None:
    walk.step(4, "The record, from node 4, verified here: no node is trusted")
    genesis = str(walk.home / "genesis.json")
    lineage = walk.mpisa("lineage", published["cid"], "--endpoint", api)
    record = next(item for item in lineage["artefacts"] if item["cid"] == published["cid"])
    walk.show({name: record[name] for name in ("kind", "license", "size", "publisher", "height")})
    result = walk.mpisa("verify", published["cid"], "--endpoint", api, "--genesis", genesis)
    for found in result["checks"]:
        walk.show({found["name"]: found["detail"]})
    walk.check(result["valid"] is True, "certificate and state proof of the record hold, checked on this machine")
    chain = walk.mpisa("chain", "verify", "--endpoint", api, "--genesis", genesis)
    walk.check(
        chain["valid"] is True and chain["height"] >= published["height"],
        f"{chain['headers_checked']} headers from genesis to height {chain['height']}: links and certificates hold",
        chain,
    )


def _kill_and_rejoin(walk: Walk, model: demo_model.DemoModel, previous: str) -> None:
    walk.step(5, "Kill validator 2, go on with three, bring it back")
    from devnet import process, state

    manifest = state.require_manifest(walk.home)
    victim = manifest.nodes[1]
    identity = state.read_processes(walk.home)[victim.name]
    walk.say(f"   $ kill -9 {victim.pid}")
    walk.check(process.send_signal(identity, signal.SIGKILL), f"{victim.name} (pid {victim.pid}) got SIGKILL")
    process.wait_gone([identity], 10)
    walk.check(not process.is_alive(identity), f"{victim.name} is dead")
    with (model.path / "README.md").open("a") as card:
        card.write("\n## Second version\n\nPublished while one of four validators was dead.\n")
    licence = ("--license", model.license) if model.license else ()
    second = walk.mpisa("publish", str(model.path), "--supersedes", previous, "--name", f"{NAME}@v2", *licence)
    walk.check(second["certified"] is True, f"three of four certified the second version at height {second['height']}")
    network = walk.mpisa("devnet", "up", "--detach")
    others = {node.name: node.pid for node in manifest.nodes if node.name != victim.name}
    now = {node["name"]: node["pid"] for node in network["nodes"]}
    walk.check(now.pop(victim.name) != victim.pid and now == others, f"only {victim.name} was started again", now)
    heads = wait_for(lambda: _equal_heads(walk.home), REJOIN_TIMEOUT_S, f"{victim.name} catching up")
    walk.check(heads["height"] >= second["height"], f"all four stand at height {heads['height']}")
    walk.check(True, f"with the same state root {heads['state_root'][:32]}...")
    seen = walk.mpisa("lineage", f"{NAME}@v2", "--endpoint", victim.api)
    walk.check(seen["cid"] == second["cid"], f"{victim.name} knows the version published while it was dead")


def _equal_heads(home: Path) -> dict[str, Any] | None:
    from devnet import cluster

    _, reports = cluster.status(home)
    heads = {(report.height, report.state_root) for report in reports}
    if len(heads) != 1 or not all(report.ready for report in reports):
        return None
    height, root = heads.pop()
    return {"height": height, "state_root": root} if height is not None and root else None


def _same_tree(one: Path, other: Path) -> list[str]:
    """Relative paths that differ or are missing on one side."""
    names = {str(path.relative_to(top)) for top in (one, other) for path in top.rglob("*") if path.is_file()}
    _, mismatch, errors = filecmp.cmpfiles(one, other, sorted(names), shallow=False)
    return sorted(mismatch + errors)


def _digest(top: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(path for path in top.rglob("*") if path.is_file()):
        total.update(os.fsencode(path.relative_to(top)) + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
