"""Bytes between real nodes when the one that fetches is killed: it goes on where it was, in bounded memory."""

import os
import signal
import threading
from pathlib import Path

from mpisa.cli.bench.machine import counters
from mpisa.primitives.errors import MpisaError
from mpisa.sdk.client import Client
from tests.functional.harness import Devnet, until

MIB = 1 << 20
SIZE = 128 * MIB
WINDOW = 8 * MIB
IN_FLIGHT = 32 * MIB
"""16 blocks, each asked of a second provider at worst."""


def narrow_the_window(node: dict[str, object]) -> None:
    """The node starts with this setting the next time."""
    file = Path(str(node["home"])) / "config.toml"
    text = file.read_text()
    assert "retrieval_window_bytes" in text
    lines = [f"retrieval_window_bytes = {WINDOW}" if "retrieval_window" in line else line for line in text.split("\n")]
    file.write_text("\n".join(lines))


def restart(net: Devnet, number: int) -> dict[str, object]:
    """Kill a node if it runs, and start it again."""
    os.kill(net.nodes()[number]["pid"], signal.SIGKILL)
    until(lambda: None if net.status()[number]["running"] else True)
    net.json("devnet", "up", "--detach")
    return net.nodes()[number]


def peak_mib(pid: object) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text[text.index("VmHWM:") :].split()[1]) // 1024


def test_a_fetcher_that_is_killed_asks_again_for_little(net: Devnet, tmp_path: Path) -> None:
    """Acknowledged blocks are there after kill -9; twice come at most those that weren't stored yet."""
    path = tmp_path / "large"
    path.write_bytes(os.urandom(SIZE))
    provider = net.nodes()[0]["api"]
    with Client(provider, home=net.home, timeout=120) as client:
        cid = client.put(path).cid
    narrow_the_window(net.nodes()[2])
    fetcher = restart(net, 2)
    served = counters(provider)["network_block_bytes_served_total"]

    def fetch(api: object) -> None:
        with Client(str(api), home=net.home, timeout=120) as client:
            client.pin(cid)

    def fetch_until_killed() -> None:
        try:
            fetch(fetcher["api"])
        except MpisaError:
            return

    fetching = threading.Thread(target=fetch_until_killed)
    fetching.start()
    until(lambda: counters(str(fetcher["api"])).get("bytes_fetched_total", 0) >= SIZE / 2 or None)
    fetcher = restart(net, 2)
    fetching.join()
    first = counters(provider)["network_block_bytes_served_total"] - served
    fetch(fetcher["api"])
    twice = counters(provider)["network_block_bytes_served_total"] - served - SIZE
    assert first >= SIZE / 2
    assert twice <= WINDOW + IN_FLIGHT, f"{twice / MIB:.1f} MiB came twice"
    with Client(str(fetcher["api"]), home=net.home, timeout=120) as client:
        client.get(cid, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()
    assert peak_mib(fetcher["pid"]) <= 256
