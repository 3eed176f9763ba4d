"""Which node, which token: in the documented order, and never a token for somebody else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mpisa.primitives.errors import InvalidConfig, Unreachable, UsageError
from mpisa.sdk.endpoint import choose_target, find_genesis_file, normalize_endpoint

FIRST, SECOND = "http://127.0.0.1:4001", "http://127.0.0.1:4002"


@pytest.fixture
def devnet(tmp_path: Path) -> Path:
    home = tmp_path / "devnet"
    nodes = []
    for number, api in enumerate((FIRST, SECOND), 1):
        place = home / f"node{number}"
        place.mkdir(parents=True)
        (place / "api.token").write_text(f"token-{number}\n")
        nodes.append({"name": f"node{number}", "api": api, "home": str(place)})
    (home / "node1" / "genesis.json").write_text("{}")
    (home / "devnet.json").write_text(json.dumps({"nodes": nodes}))
    return home


def test_a_devnet_means_its_first_node(devnet: Path) -> None:
    target = choose_target(None, None, devnet)
    assert (target.endpoint, target.token, target.home) == (FIRST, "token-1", devnet)
    assert "token-1" not in repr(target)
    assert find_genesis_file(devnet) == devnet / "node1" / "genesis.json"


def test_the_order(devnet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MPISA_HOME", str(devnet))
    assert choose_target(None, None, None).endpoint == FIRST
    monkeypatch.setenv("MPISA_ENDPOINT", SECOND)
    assert (choose_target(None, None, None).endpoint, choose_target(None, None, None).token) == (SECOND, "token-2")
    assert choose_target(FIRST + "/", None, None).token == "token-1"
    monkeypatch.setenv("MPISA_TOKEN", "from the environment")
    assert choose_target(FIRST, None, None).token == "from the environment"
    assert choose_target(FIRST, "given", None).token == "given"


def test_a_token_is_only_for_its_own_endpoint(devnet: Path) -> None:
    for foreign in ("http://127.0.0.1:9", "http://evil.example:4001", "https://127.0.0.1:4001"):
        assert choose_target(foreign, None, devnet).token is None


def test_a_nodes_home(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[api]\nhost = "127.0.0.1"\nport = 4003\n')
    (tmp_path / "api.token").write_text("secret-token")
    target = choose_target(None, None, tmp_path)
    assert (target.endpoint, target.token) == ("http://127.0.0.1:4003", "secret-token")
    (tmp_path / "api.json").write_text(json.dumps({"url": "http://127.0.0.1:4999"}))
    assert choose_target(None, None, tmp_path).endpoint == "http://127.0.0.1:4999"


def test_no_node_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=f"no node is set up in {tmp_path}") as caught:
        choose_target(None, None, tmp_path)
    assert "mpisa devnet up" in (caught.value.hint or "")
    (tmp_path / "config.toml").write_text("[api]\nport = 0\n")
    with pytest.raises(Unreachable, match="isn't running") as caught:
        choose_target(None, None, tmp_path)
    assert caught.value.hint == f"start it: `mpisa node run --home {tmp_path}`"


@pytest.mark.parametrize("text", ["{", "[]", "\0", '{"nodes": ' + "[" * 100_000])
def test_a_damaged_devnet_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "devnet.json").write_text(text)
    with pytest.raises(InvalidConfig, match=r"devnet\.json"):
        choose_target(None, None, tmp_path)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("127.0.0.1:80", "http://127.0.0.1:80"),
        ("http://localhost:80/", "http://localhost:80"),
        ("https://node.example", "https://node.example"),
        ("http://[::1]:8", "http://[::1]:8"),
    ],
)
def test_endpoints(given: str, expected: str) -> None:
    assert normalize_endpoint(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        "ftp://x",
        "http://",
        "http://h:0",
        "http://h:99999",
        "http://h:x",
        "http://u:p@h",
        "http://h/p",
        "http://h?q",
        "",
    ],
)
def test_bad_endpoints(given: str) -> None:
    with pytest.raises(UsageError, match=r"endpoint: expected http://host:port"):
        normalize_endpoint(given)
