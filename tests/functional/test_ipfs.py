"""A whole network beside a real Kubo that knows one node of it: what is put at any node arrives at Kubo, and what Kubo
holds arrives at any node.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.harness import Devnet
from tests.interop.others import Kubo

SECONDS = 60.0


@pytest.fixture
def kubo(net: Devnet, tmp_path: Path) -> Iterator[Kubo]:
    """Connected to node 1 alone."""
    other = Kubo(tmp_path)
    try:
        status = net.json("node", "status", node=1)
        assert asyncio.run(other.ask("connect", f"{status['listen'][0]}/p2p/{status['peer_id']}"))
        yield other
    finally:
        other.stop()


def test_what_is_put_at_a_node_arrives_at_kubo(net: Devnet, kubo: Kubo, model: Path, tmp_path: Path):
    cid = net.json("put", model, node=3)["cid"]
    assert asyncio.run(kubo.ask("get", cid, tmp_path / "got", SECONDS))
    for path in ("weights.bin", "README.md", "data/labels.txt", "empty"):
        assert (tmp_path / "got" / path).read_bytes() == (model / path).read_bytes()


def test_what_kubo_holds_arrives_at_a_node(net: Devnet, kubo: Kubo, tmp_path: Path):
    path = tmp_path / "theirs"
    path.write_bytes(os.urandom(3_000_000))
    cid = asyncio.run(kubo.ask("add", path))
    net.json("get", cid, "-o", tmp_path / "got", node=4)
    assert (tmp_path / "got").read_bytes() == path.read_bytes()
