"""What others rely on, word for word: commands, their JSON, and what travels between nodes."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.functional.harness import Devnet, until

HEX_32 = 64


def files_of(top: Path) -> dict[str, bytes]:
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


def test_up_prints_the_documented_object(started: tuple[Devnet, Any]) -> None:
    net, printed = started
    assert list(printed) == ["chain_id", "home", "nodes", "accounts"]
    assert printed["home"] == str(net.home)
    assert [set(node) for node in printed["nodes"]] == [{"name", "api", "peer_id", "pid", "authority"}] * 4
    assert [node["authority"] for node in printed["nodes"]] == [0, 1, 2, 3]
    assert [set(account) for account in printed["accounts"]] == [{"name", "address", "key_file"}] * 3
    assert [account["name"] for account in printed["accounts"]] == ["alice", "bob", "carol"]
    assert all(Path(account["key_file"]).stat().st_mode & 0o777 == 0o600 for account in printed["accounts"])


def test_up_on_a_running_devnet_reports_it_as_it_is(net: Devnet) -> None:
    before = net.manifest()
    again = net.json("devnet", "up", "--detach")
    assert [node["pid"] for node in again["nodes"]] == [node["pid"] for node in before["nodes"]]


def test_head_has_the_documented_fields_on_every_node(net: Devnet) -> None:
    fields = {"chain_id", "height", "hash", "state_root", "epoch", "time_ms", "ordered_height", "certified"}
    for number in (1, 2, 3, 4):
        head = net.json("chain", "head", node=number)
        assert set(head) == fields
        assert len(head["hash"]) == len(head["state_root"]) == HEX_32


def test_put_gives_the_cid_that_blob_cid_computes(net: Devnet, model: Path) -> None:
    stored = net.json("put", model)
    assert set(stored) == {"cid", "size", "blocks", "sent"}
    assert stored["cid"] == net.json("blob", "cid", model)["cid"]


def test_put_takes_stdin(net: Devnet) -> None:
    outcome = net.run("put", "-", "--json", stdin=b"hello\n")
    assert outcome.code == 0, outcome.err
    assert outcome.json["cid"] == "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"


def test_publish_through_one_node_and_get_from_another(
    net: Devnet, published: Any, model: Path, tmp_path: Path
) -> None:
    assert set(published) == {"cid", "tx", "height", "certified"}
    assert published["certified"] is True
    got = net.json("get", published["cid"], "-o", tmp_path / "copy", node=3)
    assert got["cid"] == published["cid"]
    assert files_of(tmp_path / "copy") == files_of(model)


def test_get_writes_a_file_to_stdout(net: Devnet, model: Path) -> None:
    stored = net.json("put", model / "weights.bin", node=1)
    outcome = net.run("get", stored["cid"], "-o", "-", node=4)
    assert outcome.code == 0, outcome.err
    assert outcome.out == (model / "weights.bin").read_bytes()


def test_get_by_name(net: Devnet, published: Any, model: Path, tmp_path: Path) -> None:
    assert net.json("get", "alice/demo@v1", "-o", tmp_path / "copy", node=2)["cid"] == published["cid"]
    assert files_of(tmp_path / "copy") == files_of(model)


def test_the_block_and_the_transaction_can_be_looked_up(net: Devnet, published: Any) -> None:
    block = net.json("chain", "block", str(published["height"]), node=2)
    assert block["certificate"]
    assert published["tx"] in [receipt["tx"] for receipt in block["receipts"]]
    transaction = net.json("chain", "tx", published["tx"], node=3)
    assert (transaction["status"], transaction["height"]) == ("certified", published["height"])
    assert net.json("chain", "block", block["hash"], node=4)["height"] == published["height"]


def test_the_record_and_the_chain_verify_locally(net: Devnet, published: Any) -> None:
    result = net.json("verify", published["cid"], node=4)
    assert result["valid"] is True
    assert result["record"]["license"] == "Apache-2.0"
    assert result["record"]["kind"] == "model"
    chain = net.json("chain", "verify", node=4)
    assert set(chain) == {"height", "headers_checked", "valid"}
    assert chain["valid"] is True
    assert chain["height"] >= published["height"]


def test_another_chains_genesis_is_refused(net: Devnet, published: Any) -> None:
    outcome = net.run("verify", published["cid"], "--genesis", "00" * 32, "--json")
    assert outcome.code == 5, outcome.err
    assert outcome.error["code"] == "integrity"


def test_lineage_names_what_it_was_made_from(net: Devnet, published: Any, tmp_path: Path) -> None:
    file = tmp_path / "evaluation.json"
    file.write_text('{"accuracy": 0.9}')
    made = net.json("publish", file, "--kind", "evaluation", "--input", f"base-model:{published['cid']}")
    lineage = net.json("lineage", made["cid"], node=2)
    edges = [(edge["source"], edge["target"], edge["role"]) for edge in lineage["edges"]]
    assert (published["cid"], made["cid"], "base-model") in edges


def test_state_and_proof_of_a_name(net: Devnet, published: Any) -> None:
    value = net.json("chain", "state", "name:alice/demo@v1", node=2)
    proof = net.json("chain", "proof", "name:alice/demo@v1", node=3)
    assert value["value"] == proof["value"]
    assert proof["value"]
    assert net.json("chain", "state", "name:alice/absent@v1")["value"] is None


def test_wallet_send_and_faucet_move_coins(net: Devnet) -> None:
    before = net.json("chain", "account", "bob")["balance"]
    sent = net.json("wallet", "send", "bob", "5", "--account", "carol")
    assert sent["status"] == "certified"
    assert net.json("chain", "account", "bob")["balance"] == before + 5
    net.json("wallet", "new", "dora")
    net.json("wallet", "faucet", "dora", "--amount", "7")
    assert net.json("chain", "account", "dora")["balance"] == 7


def test_blob_commands(net: Devnet, published: Any) -> None:
    entries = net.json("blob", "ls", published["cid"], node=1)["entries"]
    assert [entry["name"] for entry in entries] == ["README.md", "data", "empty", "weights.bin"]
    assert net.json("blob", "stat", published["cid"], node=1)["kind"] == "directory"
    assert net.json("blob", "pin", published["cid"], node=4)["kind"] == "recursive"
    assert net.json("blob", "unpin", published["cid"], node=4)["removed"] is True


def test_watch_shows_events_as_json_lines(net: Devnet) -> None:
    watching = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "chain", "watch", "--count", "3", "--kind", "certified", "--json"],
        env=net.environment(),
        stdout=subprocess.PIPE,
    )
    until(lambda: net.json("wallet", "send", "bob", "1") and watching.poll())
    out, _ = watching.communicate()
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["kind"] for event in events] == ["certified"] * 3
    heights = [event["data"]["height"] for event in events]
    assert heights == [heights[0], heights[0] + 1, heights[0] + 2]


def test_validators_and_peers(net: Devnet) -> None:
    assert [v["name"] for v in net.json("chain", "validators")["validators"]] == ["node1", "node2", "node3", "node4"]
    connected = [peer for peer in net.json("node", "peers", node=1)["peers"] if peer["connected"]]
    assert {peer["peer_id"] for peer in connected} == {node["peer_id"] for node in net.nodes()[1:]}


@pytest.mark.parametrize(
    "arguments",
    [
        ("chain", "tx", "00" * 32),
        ("chain", "block", "99999999"),
        ("verify", "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"),
        ("get", "alice/absent@v9", "-o", "-"),
    ],
)
def test_what_is_not_there_is_exit_code_3(net: Devnet, arguments: tuple[str, ...]) -> None:
    outcome = net.run(*arguments, "--json")
    assert outcome.code == 3, outcome.err
    assert outcome.error["code"] == "not-found"
    assert outcome.out == b""


def test_status_and_logs(net: Devnet) -> None:
    assert all(node["ready"] and node["peers"] == 3 for node in net.status())
    outcome = net.run("devnet", "logs", "node1", "-n", "5")
    assert outcome.code == 0
    assert 0 < len(outcome.out.splitlines()) <= 10
    assert net.run("devnet", "logs", "node9").code == 3
