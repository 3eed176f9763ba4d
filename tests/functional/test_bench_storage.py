"""The figures of the storage bench that need nodes, with small sizes: real nodes, every block and byte arrives."""

from pathlib import Path

from mpisa.cli.bench import machine, storage_network
from mpisa.cli.bench.storage_size import Size
from tests.functional.harness import Devnet

SMALL = Size(runs=1, large_bytes=3 << 20, files=0, dead_blocks=0, remote_blocks=5, huge_bytes=0)


def test_blocks_and_files_go_from_node_to_node(net: Devnet, tmp_path: Path) -> None:
    nodes = net.nodes()
    network = machine.Devnet(net.home, tuple(node["api"] for node in nodes), tuple(node["pid"] for node in nodes), ())
    served = machine.counters(nodes[0]["api"])["network_block_bytes_served_total"]
    figures = {figure.name: figure for figure in storage_network.on_devnet(SMALL, network, tmp_path, None)}
    assert list(figures) == [
        "remote_block_4kib_p50_ms",
        "remote_block_4kib_p99_ms",
        "transfer_1gib",
        "ttfb_1gib_ms",
    ]
    assert all(figure.value > 0 and figure.peer is None for figure in figures.values())
    assert figures["transfer_1gib"].facts["mib"] == 3
    assert figures["transfer_1gib"].goal == figures["transfer_1gib"].limit_runs[0] / 2
    assert machine.counters(nodes[0]["api"])["network_block_bytes_served_total"] - served >= (3 << 20) + 5 * 4096
