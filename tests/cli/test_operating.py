"""`mpisa node join|leave|bond|unbond` and what `mpisa chain validators|stake` shows of it, against a fake node."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from mpisa.api.server import ApiServer
from mpisa.cli.main import run
from mpisa.config import NodeConfig, Role
from mpisa.network.peer_id import peer_id_of
from mpisa.node.home import Home, NodeKeys, init_home
from mpisa.primitives.header import encode_header
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.key_file import encode_key_file
from mpisa.primitives.keys import KeyKind
from tests.api.fake_node import FakeLedger, FakeNode, key_of, make_genesis

KEYS = NodeKeys(key_of("node 9"), key_of("consensus 9"), key_of("certificate 9", KeyKind.SECP256K1))
ALICE = format_address(key_of("alice").address)
Mpisa = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A validator's home, with alice's key file beside it."""
    file = tmp_path / "alice.json"
    file.write_bytes(encode_key_file(key_of("alice"), passphrase=None, salt=bytes(16), nonce=bytes(12)))
    file.chmod(0o600)
    return init_home(tmp_path / "own", NodeConfig(name="mine", role=Role.VALIDATOR), keys=KEYS).path


@pytest.fixture
async def mpisa(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Mpisa]:
    """Runs a command against the fake node; its exit code, stdout and stderr."""
    for name in ("MPISA_ENDPOINT", "MPISA_TOKEN", "MPISA_HOME", "MPISA_ACCOUNT", "MPISA_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPISA_RUNTIME_DIR", str(tmp_path / "runtime"))
    server = ApiServer(FakeNode(tmp_path / "served", FakeLedger(*make_genesis())))
    await server.start()

    async def call(*words: str, of: Path = home) -> tuple[int, str, str]:
        options = ["--home", str(of), "--endpoint", server.url]
        code = await asyncio.to_thread(run, [*words, *options])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    yield call
    await server.stop()


@pytest.fixture
def alice(tmp_path: Path) -> tuple[str, str]:
    return ("--key", str(tmp_path / "alice.json"))


async def test_join_takes_the_homes_keys_and_name(mpisa: Mpisa, alice: tuple[str, str]) -> None:
    code, out, err = await mpisa("node", "join", "--stake", "300", *alice, "--json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["status"], answer["epoch"], answer["pending"]) == ("certified", 0, True)
    code, out, _ = await mpisa("chain", "validators", "--json")
    found = json.loads(out)
    assert code == 0
    assert [item["name"] for item in found["validators"]] == [
        item["name"] for item in found["staking"]["validators"][:4]
    ]
    mine = found["staking"]["validators"][4]
    assert (mine["name"], mine["operator"], mine["address"], mine["consensus_key"], mine["peer_id"]) == (
        "mine",
        ALICE,
        format_address(KEYS.certificate.address),
        KEYS.consensus.public_key.data.hex(),
        peer_id_of(KEYS.node.public_key.data),
    )
    assert (mine["power"], mine["next_power"], mine["change"], mine["bonded"]) == (0, 300, "joins", 300)


async def test_the_table_shows_power_now_and_next(mpisa: Mpisa, alice: tuple[str, str]) -> None:
    await mpisa("node", "join", "--stake", "300", "--name", "other", *alice)
    code, out, err = await mpisa("chain", "validators")
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split("  ")[0] == "name"
    assert ("next power" in lines[0], "jailed until" in lines[0]) == (True, True)
    assert lines[5].split()[:6] == ["other", format_address(KEYS.certificate.address), "0", "300", "joins", "300"]
    assert "the set changes when epoch 0 ends, from " in err


async def test_bond_unbond_leave_and_stake(mpisa: Mpisa, alice: tuple[str, str]) -> None:
    await mpisa("node", "join", "--stake", "300", *alice)
    assert (await mpisa("node", "bond", "50", *alice))[0] == 0
    code, out, err = await mpisa("node", "unbond", "150", *alice)
    assert (code, out.startswith("unbond: certified at height 3, ")) == (0, True), err
    code, out, _ = await mpisa("chain", "stake", ALICE, "--json")
    stake = json.loads(out)
    assert (code, stake["bonded"], stake["waiting"], stake["returns"]) == (0, 200, 150, [])
    assert (await mpisa("node", "leave", *alice))[0] == 0
    code, out, _ = await mpisa("chain", "stake", ALICE)
    assert code == 0
    assert out.splitlines()[-1].split()[0] == "350"


async def test_without_an_account_the_certificate_key_is_the_operator(mpisa: Mpisa) -> None:
    code, _, err = await mpisa("node", "leave", "--json")
    assert code == 1
    problem = json.loads(err)["error"]
    assert (problem["code"], KEYS.certificate.address.hex() in problem["message"]) == ("rejected", True)


async def test_rotated_keys_lie_in_the_home_before_the_ledger_names_them(
    mpisa: Mpisa, alice: tuple[str, str], home: Path
) -> None:
    await mpisa("node", "join", "--stake", "300", *alice)
    code, _, err = await mpisa("node", "rotate-keys", *alice)
    assert code == 0, err
    following = Home(home).read_keys(Role.VALIDATOR)
    assert (following.consensus, following.certificate) == (KEYS.consensus, KEYS.certificate)
    _, out, _ = await mpisa("chain", "validators", "--json")
    mine = json.loads(out)["staking"]["validators"][4]
    assert (mine["address"], mine["consensus_key"]) == (
        format_address(following.next_certificate.address),
        following.next_consensus.public_key.data.hex(),
    )
    assert not (home / "keys" / "operator.json").exists()


async def test_a_repeated_rotation_asks_for_the_same_keys(mpisa: Mpisa, alice: tuple[str, str], home: Path) -> None:
    assert (await mpisa("node", "rotate-keys", "--consensus", *alice))[0] == 1, "nobody's validator yet"
    kept = (home / "keys" / "next-consensus.json").read_bytes()
    await mpisa("node", "join", "--stake", "300", *alice)
    assert (await mpisa("node", "rotate-keys", "--consensus", *alice))[0] == 0
    assert (home / "keys" / "next-consensus.json").read_bytes() == kept
    assert not (home / "keys" / "next-certificate.json").exists()
    code, _, err = await mpisa("node", "rotate-keys", "--consensus", *alice)
    assert (code, "key-mismatch" in err) == (1, True)


async def test_an_ml_dsa_key_is_made_and_registered(mpisa: Mpisa, alice: tuple[str, str], home: Path) -> None:
    await mpisa("node", "join", "--stake", "300", *alice)
    code, _, err = await mpisa("node", "rotate-keys", "--post-quantum", *alice)
    assert code == 0, err
    assert "the node co-signs once it was started again" in err
    assert "the set changes when epoch 0 ends, from " in err
    key = Home(home).read_keys(Role.VALIDATOR).post_quantum
    _, out, _ = await mpisa("chain", "validators", "--json")
    mine = json.loads(out)["staking"]["validators"][4]
    assert mine["post_quantum_key"] == key.public_key.data.hex()
    assert not list((home / "keys").glob("next-*"))


async def test_an_operator_that_is_the_certificate_key_keeps_it_when_it_rotates(mpisa: Mpisa, home: Path) -> None:
    await mpisa("node", "rotate-keys", "--certificate")
    assert Home(home).read_key("operator") == KEYS.certificate
    assert Home(home).operator_key_name == "operator"


async def test_a_refusal_is_the_ledgers_own_word(mpisa: Mpisa, alice: tuple[str, str]) -> None:
    code, out, err = await mpisa("node", "bond", "5", *alice)
    assert (code, out) == (1, "")
    assert f"not-validator: operations[0].bond: {ALICE} runs no validator" in err


async def test_a_follower_has_no_keys_to_join_with(mpisa: Mpisa, tmp_path: Path) -> None:
    follower = init_home(tmp_path / "follower", NodeConfig(name="reader", role=Role.FOLLOWER)).path
    code, _, err = await mpisa("node", "join", "--stake", "1", of=follower)
    assert code == 2
    assert f"the node in {follower} has no keys of a validator: its role is follower" in err
    assert "mpisa node init --role validator --join URL" in err


async def test_a_place_without_a_node_is_named(mpisa: Mpisa, tmp_path: Path, home: Path) -> None:
    (home / "config.toml").unlink()
    code, _, err = await mpisa("node", "leave")
    assert (code, f"no node in {home}" in err) == (3, True)


async def test_a_report_names_who_is_convicted(mpisa: Mpisa, tmp_path: Path) -> None:
    header = FakeLedger(*make_genesis()).blocks[0].header
    certificate = (0).to_bytes(31, "big") + b"\1" + bytes(64)
    file = tmp_path / "conflict.json"
    pair = {"header": encode_header(header).hex(), "certificate": certificate.hex()}
    file.write_text(json.dumps({"headers": [pair, pair]}))
    code, out, err = await mpisa("chain", "report", str(file), "--json")
    assert code == 0, err
    assert [item["kind"] for item in json.loads(out)["offences"]] == ["double-header"]
    file.write_text("{}")
    code, _, err = await mpisa("chain", "report", str(file))
    assert (code, err.splitlines()[0]) == (2, f"error: {file}: headers: expected a list")


async def test_the_dag_is_drawn_with_verdicts_sizes_and_equivocations(mpisa: Mpisa) -> None:
    code, out, err = await mpisa("chain", "dag")
    assert code == 0, err
    assert out.splitlines()[:4] == [
        "round  node3  node2    node1  node4      verdicts",
        "    3  [o]     o1.5k    .      .         node3:?",
        "    2   o     [o1.5k]   .      2!o4.5k   node2:commit",
        "    1   *      *1.5k   [.]     *4.5k     node1:skip",
    ]
    assert "equivocation" in out
    assert "epoch 0, commit 7" in err
    code, out, _ = await mpisa("chain", "dag", "--rounds", "1", "--json")
    shown = json.loads(out)
    assert [item["round"] for item in shown["rounds"]] == [3]
    assert shown["rounds"][0]["slots"] == [
        {"number": 0, "authority": 0, "verdict": "undecided", "final": False, "vertex": None}
    ]
    identifier = shown["rounds"][0]["vertices"][0]["id"]
    code, out, _ = await mpisa("chain", "vertex", identifier[:8], "--json")
    assert (code, json.loads(out)["id"], json.loads(out)["transactions"]) == (0, identifier, 1)
    assert (await mpisa("chain", "vertex", "ffffffff"))[0] == 3


async def test_validators_show_what_they_did_of_late(mpisa: Mpisa) -> None:
    code, out, _ = await mpisa("chain", "validators")
    assert code == 0
    first, third = out.splitlines()[1].split("  "), out.splitlines()[3].split("  ")
    assert [word.strip() for word in first if word.strip()][-3:] == ["3/4", "1/1", "suspended until commit 9, silent"]
    assert "0" in [word.strip() for word in third], "the round of an authority without a vertex"
    _, out, _ = await mpisa("chain", "validators", "--json")
    conduct = json.loads(out)["conduct"]
    assert conduct["rounds"] == 3
    assert conduct["authorities"][0]["suspended_until"] == 9
