import socket
from pathlib import Path

import pytest

from devnet.plan import MAX_NODES, Plan
from devnet.ports import choose_ports, is_free
from devnet.state import DevnetNode, Manifest, read_manifest, write_json
from mpisa.primitives.errors import InvalidConfig, NotFound

MANIFEST = Manifest(
    "mpisa-devnet", Path("/net"), (DevnetNode("node1", "http://127.0.0.1:1", "id", 7, 0, Path("/net/node1")),), ()
)


@pytest.mark.parametrize("nodes", [0, -1, MAX_NODES + 1])
def test_the_number_of_nodes_is_bounded(nodes: int) -> None:
    with pytest.raises(InvalidConfig) as caught:
        Plan(nodes=nodes)
    assert str(caught.value) == f"--nodes {nodes}: expected 1 to {MAX_NODES}"


def test_the_largest_number_of_nodes_is_allowed() -> None:
    assert Plan(nodes=MAX_NODES).nodes == MAX_NODES


def test_an_existing_devnet_keeps_its_parameters() -> None:
    Plan().require_matches(MANIFEST)
    Plan(nodes=1, chain_id="mpisa-devnet").require_matches(MANIFEST)
    with pytest.raises(InvalidConfig) as caught:
        Plan(nodes=4).require_matches(MANIFEST)
    assert str(caught.value) == "the devnet in /net has --nodes 1, not 4"
    with pytest.raises(InvalidConfig) as caught:
        Plan(seed="x").require_matches(MANIFEST)
    assert str(caught.value) == "the devnet in /net exists: --seed only counts when it is made"


def test_ports_are_distinct_and_free() -> None:
    ports = choose_ports(12, None)
    assert len(set(ports)) == 12
    assert all(is_free(port) for port in ports)


def test_a_base_port_is_taken_literally_and_refused_when_in_use() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(InvalidConfig) as caught:
            choose_ports(1, port)
        assert str(caught.value) == f"ports in use: {port}"
    (base,) = choose_ports(1, None)
    assert choose_ports(1, base) == (base,)
    with pytest.raises(InvalidConfig) as caught:
        choose_ports(2, 65_535)
    assert str(caught.value) == "--base-port 65535: 2 ports from there do not fit below 65536"


def test_the_manifest_reads_back(tmp_path: Path) -> None:
    write_json(tmp_path / "devnet.json", MANIFEST.to_json())
    assert read_manifest(tmp_path) == MANIFEST
    assert MANIFEST.announcement()["nodes"] == [
        {"name": "node1", "api": "http://127.0.0.1:1", "peer_id": "id", "pid": 7, "authority": 0}
    ]


def test_a_damaged_manifest_is_named(tmp_path: Path) -> None:
    from devnet.state import require_manifest

    with pytest.raises(NotFound) as missing:
        require_manifest(tmp_path)
    assert str(missing.value) == f"no devnet in {tmp_path}"
    (tmp_path / "devnet.json").write_text('{"chain_id": 1}')
    with pytest.raises(InvalidConfig) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == f"{tmp_path / 'devnet.json'}: missing or mistyped: 'home'"
    (tmp_path / "devnet.json").write_text("{")
    with pytest.raises(InvalidConfig) as broken:
        read_manifest(tmp_path)
    assert str(broken.value).startswith(f"{tmp_path / 'devnet.json'}: not valid JSON: ")
