"""Many publishes at once through four nodes, several of them signed by one account at the same time."""

import asyncio
from pathlib import Path

from mpisa.cli.bench import burst
from tests.functional.harness import Devnet


def test_none_is_lost_none_comes_twice_and_all_nodes_agree(net: Devnet, tmp_path: Path) -> None:
    manifest = net.manifest()
    apis = [node["api"] for node in manifest["nodes"]]
    accounts = [Path(account["key_file"]) for account in manifest["accounts"]]
    outcome = asyncio.run(burst.run(apis, accounts, net.home, tmp_path, 100))
    assert (outcome.publishes, outcome.lost, outcome.twice, outcome.same_state_root) == (100, 0, 0, True)
