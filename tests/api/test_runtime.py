"""The token and the files by which a server is found."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from mpisa.api.runtime import Announcement, read_or_make_token
from mpisa.api.server import ApiServer
from mpisa.primitives.errors import InvalidConfig
from mpisa.sdk.endpoint import choose_target, runtime_file
from tests.api.fake_node import FakeNode


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_once(tmp_path: Path) -> None:
    token = read_or_make_token(tmp_path)
    assert len(token) >= 40
    assert mode(tmp_path / "api.token") == 0o600
    assert read_or_make_token(tmp_path) == token


def test_an_open_token_is_refused(tmp_path: Path) -> None:
    read_or_make_token(tmp_path)
    (tmp_path / "api.token").chmod(0o644)
    with pytest.raises(InvalidConfig, match="others can read it") as caught:
        read_or_make_token(tmp_path)
    assert caught.value.hint == f"chmod 600 {tmp_path / 'api.token'}"


@pytest.mark.parametrize("data", [b"", b"short\n", b"x" * 600, b"\xff" * 40, b"two words that are long enough"])
def test_a_bad_token_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "api.token").write_bytes(data)
    (tmp_path / "api.token").chmod(0o600)
    with pytest.raises(InvalidConfig, match="expected 16 to 512 printable characters"):
        read_or_make_token(tmp_path)


async def test_a_running_server_can_be_found_and_leaves_nothing(node: FakeNode) -> None:
    server = ApiServer(node)
    url = await server.start()
    found = runtime_file(url)
    body = json.loads(found.read_text())
    assert body == {"url": url, "token": read_or_make_token(node.home), "pid": os.getpid(), "peer_id": node.peer_id}
    assert (mode(found), mode(found.parent)) == (0o600, 0o700)
    assert "token" not in json.loads((node.home / "api.json").read_text())
    by_home = choose_target(None, None, node.home)
    assert (by_home.endpoint, by_home.token) == (url, body["token"])
    by_endpoint = choose_target(url, None, node.home.parent / "elsewhere")
    assert by_endpoint.token == body["token"]
    found.chmod(0o644)
    assert choose_target(url, None, node.home.parent / "elsewhere").token is None
    await server.stop()
    assert not found.exists()
    assert not (node.home / "api.json").exists()


def test_another_process_file_is_left_alone(tmp_path: Path) -> None:
    announcement = Announcement(tmp_path, "http://127.0.0.1:1", "t" * 20, "peer")
    announcement.publish()
    (tmp_path / "api.json").write_text(json.dumps({"pid": os.getpid() + 1}))
    announcement.withdraw()
    assert (tmp_path / "api.json").exists()
    assert not runtime_file("http://127.0.0.1:1").exists()
