"""Homes: made once, locked once, keys guarded, damage refused."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from mpisa.config import NodeConfig, Role
from mpisa.node.home import Home, HomeLock, Loss, NodeKeys, init_home, new_keys
from mpisa.primitives.errors import Denied, InvalidConfig, MpisaError, NotFound, NotReady, StoreBusy, StoreDamaged
from mpisa.primitives.key_file import decode_key_file
from tests.node.cluster import Cluster, key_of, make_cluster, running


async def test_a_second_node_on_the_same_home_is_told_the_pid(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        second = cluster.open(0)
        with pytest.raises(StoreBusy) as caught:
            await second.start()
        assert str(caught.value) == f"another node (pid {os.getpid()}) already runs on {cluster.home(0)}"
        assert caught.value.hint == "stop it first, or give this node another --home"
        await second.stop()
        assert cluster.nodes[0].ready() == (True, [])


async def test_a_node_that_does_not_run_says_so(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 1)
    node = cluster.open(0)
    assert node.ready() == (False, ["the node isn't running"])
    with pytest.raises(NotReady):
        node.status()
    await node.stop()


def test_a_lock_is_free_again_after_release(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with HomeLock(home):
        assert home.lock_file.read_text() == f"{os.getpid()}\n"
        with pytest.raises(StoreBusy):
            HomeLock(home).acquire()
    with HomeLock(home):
        pass


def test_keys_are_private_and_of_the_right_kind(tmp_path: Path) -> None:
    home = init_home(tmp_path / "node", NodeConfig())
    for name in ("node", "consensus", "certificate"):
        file = home.keys / f"{name}.json"
        assert file.stat().st_mode & 0o777 == 0o600
        home.read_key(name)
    file.chmod(0o644)
    with pytest.raises(InvalidConfig, match=r"others can read it \(mode 644\), expected 600"):
        home.read_key("certificate")
    file.chmod(0o600)
    file.write_bytes((home.keys / "node.json").read_bytes())
    with pytest.raises(InvalidConfig, match="expected a key of kind secp256k1, found ed25519"):
        home.read_key("certificate")
    file.unlink()
    with pytest.raises(NotFound, match="there is no such key file"):
        home.read_key("certificate")


def test_a_home_is_never_overwritten(tmp_path: Path) -> None:
    init_home(tmp_path, NodeConfig(role=Role.FOLLOWER))
    before = (tmp_path / "keys" / "node.json").read_bytes()
    with pytest.raises(InvalidConfig, match="exists already"):
        init_home(tmp_path, NodeConfig())
    (tmp_path / "config.toml").unlink()
    with pytest.raises(InvalidConfig, match="exists already"):
        init_home(tmp_path, NodeConfig())
    assert (tmp_path / "keys" / "node.json").read_bytes() == before
    assert not (tmp_path / "keys" / "consensus.json").exists()


def test_a_sealed_key_needs_its_passphrase(tmp_path: Path) -> None:
    home = init_home(tmp_path, NodeConfig(role=Role.FOLLOWER), passphrase=b"open sesame")
    assert home.read_key("node", b"open sesame").kind.value == "ed25519"
    with pytest.raises(Denied):
        home.read_key("node", b"wrong")


def test_genesis_must_be_there_and_whole(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 1)
    file = cluster.home(0) / "genesis.json"
    text = file.read_text()
    file.write_text(text.replace('"power": 1', '"power": 0'))
    with pytest.raises(MpisaError, match="power"):
        cluster.open(0)
    file.write_bytes(b"\xff")
    with pytest.raises(InvalidConfig, match="not UTF-8 text at byte 0"):
        cluster.open(0)
    file.unlink()
    with pytest.raises(InvalidConfig, match="there is no such file"):
        cluster.open(0)


async def test_a_vertex_key_that_the_validators_do_not_name_is_refused(tmp_path: Path) -> None:
    cluster = make_cluster(tmp_path, 1)
    keys = Home(cluster.home(0)).read_keys(Role.VALIDATOR)
    mixed = NodeKeys(keys.node, new_keys(Role.VALIDATOR).consensus, keys.certificate)
    init_home(tmp_path / "mixed", NodeConfig(), genesis_text=cluster.genesis.to_json(), keys=mixed)
    node = cluster.open(0, tmp_path / "mixed")
    with pytest.raises(InvalidConfig, match="its key isn't the one that epoch 0 names for node1"):
        await node.start()
    await node.stop()


def test_next_keys_wait_beside_the_present_ones_until_they_are_adopted(tmp_path: Path) -> None:
    home = init_home(tmp_path, NodeConfig())
    before, following = home.read_keys(Role.VALIDATOR), new_keys(Role.VALIDATOR)
    assert following.consensus is not None
    assert following.certificate is not None
    home.write_next_keys(following.consensus, following.certificate)
    both = home.read_keys(Role.VALIDATOR)
    assert (both.consensus, both.certificate) == (before.consensus, before.certificate)
    assert both.certificates == (before.certificate, following.certificate)
    assert both.identity.keys == (before.consensus, following.consensus)
    with pytest.raises(InvalidConfig, match="exists already"):
        home.write_next_keys(following.consensus, following.certificate)
    home.adopt_next_keys()
    after = home.read_keys(Role.VALIDATOR)
    assert (after.consensus, after.certificate) == (following.consensus, following.certificate)
    assert (after.next_consensus, after.next_certificate) == (None, None)


def test_keys_that_were_replaced_are_kept_aside(tmp_path: Path) -> None:
    home = init_home(tmp_path, NodeConfig())
    first = home.read_keys(Role.VALIDATOR)
    for _ in range(2):
        home.make_next_keys(consensus=True, certificate=False)
        home.adopt_next_keys()
    assert sorted(path.name for path in home.keys.glob("former-*")) == [
        "former-consensus-1.json",
        "former-consensus-2.json",
    ]
    assert decode_key_file((home.keys / "former-consensus-1.json").read_bytes(), None) == first.consensus
    assert home.read_keys(Role.VALIDATOR).certificate == first.certificate


def test_a_loss_says_when_and_why(tmp_path: Path) -> None:
    home = init_home(tmp_path, NodeConfig())
    assert home.read_loss() is None
    home.write_loss(Loss(1_700_000_000_000, "its vertex store was damaged"))
    assert home.read_loss() == Loss(1_700_000_000_000, "its vertex store was damaged")
    home.loss_file.write_text("long ago")
    with pytest.raises(InvalidConfig, match="expected a time in milliseconds and a reason, found 'long'"):
        home.read_loss()


def flip(file: Path, offset: int) -> None:
    data = bytearray(file.read_bytes())
    data[offset] ^= 0x40
    file.write_bytes(bytes(data))


async def refused(cluster: Cluster) -> MpisaError:
    node = cluster.open(0)
    with pytest.raises(StoreDamaged) as caught:
        await node.start()
    await node.stop()
    return caught.value


@pytest.mark.parametrize("store", ["ledger", "consensus", "pins"])
async def test_a_damaged_store_is_refused_with_a_hint(tmp_path: Path, store: str) -> None:
    async with running(tmp_path, 1) as cluster:
        alice = key_of("account 0")
        for nonce in range(3):
            await cluster.nodes[0].submit(cluster.transfer(alice, nonce), "certified")
        await cluster.nodes[0].blobs.put_stream(_one(b"pinned"))
        await cluster.stop(0)
        logs = sorted((cluster.home(0) / store).glob("*.log"))
        flip(logs[-1], 40)
        error = await refused(cluster)
        assert store in str(error)
        assert error.hint is not None


async def test_another_genesis_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path / "one", 1) as cluster:
        await cluster.stop(0)
        other = make_cluster(tmp_path / "two", 1, accounts=2)
        (cluster.home(0) / "genesis.json").write_text(other.genesis.to_json())
        node = cluster.open(0)
        with pytest.raises(InvalidConfig, match="holds the chain of genesis"):
            await node.start()
        await node.stop()


async def test_a_node_that_stops_says_so_and_can_be_waited_for(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        waiting = asyncio.create_task(cluster.nodes[0].wait())
        node = cluster.nodes[0]
        await cluster.stop(0)
        await waiting
        await node.stop()
        assert node.ready()[0] is False


async def _one(data: bytes):  # type: ignore[no-untyped-def]
    yield data
