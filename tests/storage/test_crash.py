"""Kills and power cuts under load: every acknowledged block is there afterwards."""

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mpisa.primitives.cid import Cid
from storage.files import OsFiles
from storage.packs import DiskBlockStore

KILLS = 24
POWER_CUTS = 12

WRITER = """
import sys, threading
from pathlib import Path
from tests_block import block
from storage.packs import DiskBlockStore

store = DiskBlockStore.open(Path(sys.argv[1]), max_pack_bytes=400_000)
first = int(sys.argv[2])
lock = threading.Lock()

def work(lane):
    seed = first + lane
    while True:
        blocks = [block(seed + 4 * i) for i in range(3)]
        store.put(blocks)
        with lock:
            print(*(seed + 4 * i for i in range(3)), flush=True)
        seed += 12

for lane in range(4):
    threading.Thread(target=work, args=(lane,)).start()
"""

BLOCK = """
import hashlib
from mpisa.primitives.cid import Cid

def block(seed):
    data = hashlib.shake_256(seed.to_bytes(8, "big")).digest(1 + seed * 37 % 9000)
    return Cid.of(data), data
"""


def block(seed: int) -> tuple[Cid, bytes]:
    data = hashlib.shake_256(seed.to_bytes(8, "big")).digest(1 + seed * 37 % 9000)
    return Cid.of(data), data


def test_kill_9_under_load_loses_no_acknowledged_block(tmp_path: Path) -> None:
    (tmp_path / "tests_block.py").write_text(BLOCK)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{Path.cwd()}"}
    rng = random.Random(7)
    home = tmp_path / "store"
    acknowledged: set[int] = set()
    for round_number in range(KILLS):
        command = [sys.executable, "-c", WRITER, str(home), str(round_number * 1_000_000)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as writer:
            assert writer.stdout is not None
            for _ in range(rng.randrange(1, 40)):
                acknowledged.update(map(int, writer.stdout.readline().split()))
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout.read().decode().splitlines(keepends=True):
                if line.endswith("\n"):
                    acknowledged.update(map(int, line.split()))
        assert writer.returncode == -signal.SIGKILL
    store = DiskBlockStore.open(home)
    missing = [seed for seed in sorted(acknowledged) if store.get(block(seed)[0]) != block(seed)[1]]
    assert missing == []
    assert len(acknowledged) > KILLS
    assert store.verify().intact
    store.close()


class RecordingFiles(OsFiles):
    """Remembers what a power cut would leave: for every file the length at its last sync."""

    def __init__(self) -> None:
        self.synced: dict[str, int] = {}

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self.synced[str(Path(f"/proc/self/fd/{descriptor}").readlink())] = os.fstat(descriptor).st_size


@pytest.mark.parametrize("seed", range(POWER_CUTS))
def test_a_power_cut_loses_no_acknowledged_block(tmp_path: Path, seed: int) -> None:
    """Files are cut to their last sync, followed by some of what was being written, and the index loses its log."""
    rng = random.Random(seed)
    files = RecordingFiles()
    store = DiskBlockStore.open(tmp_path / "store", files=files, max_pack_bytes=60_000)
    count = rng.randrange(1, 60)
    for i in range(count):
        store.put([block(i)])
    cut = tmp_path / "cut"
    shutil.copytree(tmp_path / "store", cut)
    store.close()
    for name, length in files.synced.items():
        path = cut / "packs" / Path(name).name
        torn = rng.choice([b"", bytes(rng.randrange(1, 9000)), rng.randbytes(rng.randrange(1, 9000)), b"MBLK" * 100])
        last = path.name == max(Path(other).name for other in files.synced)
        path.write_bytes(path.read_bytes()[:length] + (torn if last else b""))
    for log in (cut / "index").glob("*.log"):
        os.truncate(log, 0 if rng.random() < 0.5 else rng.randrange(log.stat().st_size + 1))
    store = DiskBlockStore.open(cut)
    assert [i for i in range(count) if store.get(block(i)[0]) != block(i)[1]] == []
    assert store.stats().blocks == count
    assert store.verify().intact
    store.close()
