"""The real Kubo 0.22 fetches from a node by bitswap and a node from it, and both read each other's DHT records."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mpisa.network.ports import LinkRule
from mpisa.network.service import PeerNetwork
from mpisa.primitives.cid import Cid
from storage.profiles import UNIXFS_V0_2015, UNIXFS_V1_2025
from tests.interop.conftest import Ours
from tests.interop.others import Kubo
from tests.interop.support import SIZES, add, contents, fetch, make_file, make_tree, take_out
from tests.network.support import DictBlocks, config, eventually

SECONDS = 30.0
PROFILES = pytest.mark.parametrize("profile", [UNIXFS_V0_2015, UNIXFS_V1_2025], ids=lambda profile: profile.name)


@PROFILES
async def test_kubo_fetches_files_and_a_tree_from_us(ours: Ours, kubo: Kubo, tmp_path: Path, profile):
    assert await kubo.ask("connect", ours.dial)
    for path in (*(make_file(tmp_path, size) for size in SIZES), make_tree(tmp_path)):
        cid = add(ours.store, path, profile)
        got = tmp_path / f"got {path.name}"
        assert await kubo.ask("get", cid, got, SECONDS), f"{path.name} didn't arrive"
        assert contents(got) == contents(path)
    assert ours.network.stats.bitswap_bytes_served > sum(SIZES)


async def test_we_fetch_files_and_a_tree_from_kubo(ours: Ours, kubo: Kubo, tmp_path: Path):
    for path in (*(make_file(tmp_path, size) for size in SIZES), make_tree(tmp_path)):
        cid = Cid.parse(await kubo.ask("add", path))
        assert cid.version == 0
        await fetch(ours.network, ours.store, cid, [kubo.address])
        folder = tmp_path / f"got {path.name}"
        folder.mkdir()
        assert contents(take_out(ours.store, cid, folder)) == contents(path)
    assert len(ours.network.bitswap.wants) == 0


async def test_kubo_finds_our_record_and_dials_us(ours: Ours, kubo: Kubo, tmp_path: Path):
    """Our record was left with Kubo, then the connection is cut: only the record says where the block is. What we hold
    and never announced doesn't arrive meanwhile, and brings nobody.
    """
    path = make_file(tmp_path, 1000)
    cid = add(ours.store, path, UNIXFS_V1_2025)
    (tmp_path / "secret").write_bytes(b"never announced")
    secret = add(ours.store, tmp_path / "secret", UNIXFS_V1_2025)
    network, peer = ours.network, kubo.address.peer_id
    await network._peering.reach(kubo.address, SECONDS)
    await network.provide(cid)
    assert network.stats.provides == 1
    await network.set_link_rules({peer: LinkRule(cut=True)})
    await eventually(lambda: not network._peering._linked)
    assert not await kubo.ask("get", secret, tmp_path / "got secret", 2.0)
    await network.set_link_rules({})
    assert not await kubo.ask("get", secret, tmp_path / "got secret", 1.0)
    assert not network._peering._linked
    assert await kubo.ask("get", cid, tmp_path / "got", SECONDS)
    assert network._peering._linked == {peer}
    assert (tmp_path / "got").read_bytes() == path.read_bytes()


async def test_kubo_tells_others_of_our_record(ours: Ours, kubo: Kubo):
    cid = Cid.of(b"ours")
    await ours.network._peering.reach(kubo.address, SECONDS)
    await ours.network.provide(cid)
    async with PeerNetwork(config(200), DictBlocks()) as other:
        await other._peering.reach(kubo.address, SECONDS)
        assert await other.find_providers(cid) == [ours.network.address]


async def test_we_find_kubos_record_and_fetch(ours: Ours, kubo: Kubo, tmp_path: Path):
    path = tmp_path / "theirs"
    path.write_bytes(os.urandom(5000))
    await ours.network._peering.reach(kubo.address, SECONDS)
    cid = Cid.parse(await kubo.ask("add", path))
    providers = await ours.network.find_providers(cid)
    assert providers == [kubo.address]
    await fetch(ours.network, ours.store, cid, providers)
    assert contents(take_out(ours.store, cid, tmp_path)) == contents(path)
