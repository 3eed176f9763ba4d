"""SIGKILL in the middle of committing: whatever is left is a whole number of blocks, with its map."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from mpisa.node.database import Database
from mpisa.node.state_check import check_history, check_state
from mpisa.node.state_history import UNDO
from mpisa.node.state_map import StateMap
from mpisa.primitives import merkle
from tests.node.ground_keys import GROUND

KILLS = 6


def changes_of(height: int) -> list[tuple[bytes, bytes | None]]:
    """Of block `height`: keys that come, change and go, some of them ground into one slot."""
    ground = [(key, None if height % 3 == 0 else b"%d" % height) for key in GROUND[height % 20 : height % 20 + 30]]
    return [*ground, *[(b"key %d" % (n * height % 97), b"%d" % height) for n in range(40)]]


def write_blocks(path: Path, first: int) -> None:
    """Blocks from height `first` until killed; each height is printed once it is durable."""
    database = Database(path, "test")
    state = StateMap(database, first - 1)
    state.load()
    for height in range(first, 100_000):
        update = state.preview(changes_of(height))
        database.write(update.batch, sync=True)
        state.publish(update)
        os.write(1, b"%d\n" % height)


def test_what_a_kill_leaves_is_whole(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.node.test_state_crash import write_blocks;"
        " write_blocks(Path(sys.argv[1]), int(sys.argv[2]))"
    )
    path, height = tmp_path / "db", 0
    nodes: list[merkle.MapNode | None] = [None]
    for kill in range(KILLS):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(height + 1)], stdout=subprocess.PIPE, bufsize=0
        ) as writer:
            assert writer.stdout is not None
            acknowledged = height
            for _ in range(5 + kill):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
        database = Database(path, "test")
        height = int.from_bytes(database.range(UNDO, b"v", limit=1, reverse=True)[0][0][1:], "big")
        assert height >= acknowledged
        for number in range(len(nodes), height + 1):
            nodes.append(merkle.update(nodes[-1], changes_of(number)))
        root = merkle.root_hash(nodes[height])
        state = StateMap(database, height)
        assert state.load() == root
        check_state(database, root)
        check_history(state, database, lambda at: merkle.root_hash(nodes[at]))
        assert state.prove(GROUND[20], height - 1, merkle.root_hash(nodes[height - 1])) == merkle.prove(
            nodes[height - 1], GROUND[20]
        )
        database.close()
