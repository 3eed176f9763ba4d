"""The real Helia on js-libp2p fetches from a node by bitswap and a node from it, and it takes part in our DHT."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpisa.primitives.cid import Cid
from storage.profiles import UNIXFS_V0_2015, UNIXFS_V1_2025
from tests.interop.conftest import Ours
from tests.interop.others import Helia
from tests.interop.support import SIZES, add, contents, fetch, make_file, take_out

SECONDS = 30.0


@pytest.mark.parametrize("profile", [UNIXFS_V0_2015, UNIXFS_V1_2025], ids=lambda profile: profile.name)
async def test_helia_fetches_from_us(ours: Ours, helia: Helia, tmp_path: Path, profile):
    await helia.ask("connect", ours.dial)
    for size in SIZES:
        path = make_file(tmp_path, size)
        await helia.ask("get", add(ours.store, path, profile), tmp_path / "got", SECONDS)
        assert (tmp_path / "got").read_bytes() == path.read_bytes()
    await helia.ask("disconnect")


@pytest.mark.parametrize("version", [0, 1])
async def test_we_fetch_from_helia(ours: Ours, helia: Helia, tmp_path: Path, version):
    for size in SIZES:
        path = make_file(tmp_path, size)
        cid = Cid.parse(await helia.ask("add", path, version))
        assert cid.version == version
        await fetch(ours.network, ours.store, cid, [helia.address])
        folder = tmp_path / f"got {size}"
        folder.mkdir()
        assert contents(take_out(ours.store, cid, folder)) == contents(path)
    assert await helia.ask("ping", ours.dial) >= 0
    await helia.ask("disconnect")


async def test_helia_takes_part_in_our_dht(ours: Ours, helia: Helia):
    await helia.ask("connect", ours.dial)
    theirs, own = Cid.of(b"held by Helia"), Cid.of(b"held by us")
    assert await helia.ask("provide", theirs)
    assert await ours.network.find_providers(theirs) == [helia.address]
    await ours.network.provide(own)
    assert ours.network.stats.provides == 1
    found = await helia.ask("providers", own)
    assert found["id"] == ours.network.peer_id
    assert ours.network.address.multiaddrs[0] in found["addresses"]
    await helia.ask("disconnect")
