"""One devnet of four real processes for all functional tests; stopped at the end whatever happened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.harness import Devnet


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Devnet, Any]]:
    """The devnet, and what `devnet up --json` printed."""
    top = tmp_path_factory.mktemp("functional")
    net = Devnet(top / "net", top / "run")
    try:
        outcome = net.run("devnet", "up", "--nodes", "4", "--home", net.home, "--detach", "--json")
        assert outcome.code == 0, outcome.err
        yield net, outcome.json
    finally:
        if net.home.exists():
            stopped = net.run("devnet", "down")
            assert stopped.code == 0, stopped.err


@pytest.fixture
def net(started: tuple[Devnet, Any]) -> Devnet:
    """The devnet with all nodes running."""
    devnet = started[0]
    if not all(node["running"] for node in devnet.status()):
        devnet.json("devnet", "up", "--detach")
    return devnet


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a file of several blocks, a card, an empty file and a directory in it."""
    top = tmp_path_factory.mktemp("model") / "model"
    (top / "data").mkdir(parents=True)
    (top / "weights.bin").write_bytes(b"".join(number.to_bytes(4, "big") for number in range(900_000)))
    (top / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    (top / "data" / "labels.txt").write_text("one\ntwo\n")
    (top / "empty").write_bytes(b"")
    return top


@pytest.fixture(scope="session")
def published(started: tuple[Devnet, Any], model: Path) -> Any:
    """The model, published through node 1 by alice."""
    return started[0].json("publish", model, "--name", "alice/demo@v1", node=1)
