"""Adding and verifying, beside the limits that bound them: run by hand, `python tests/storage/bench_add.py DIRECTORY`.

Prints MiB/s, the median of interleaved runs: sha256 on one core, plain sequential writes with one fdatasync each
16 MiB, `import_path` of the same bytes into a new store, and `verify` of that store.
"""

import hashlib
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from storage.importer import import_path
from storage.packs import DiskBlockStore

SIZE_MIB = 256
RUNS = 5
PIECE = 16 << 20


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return SIZE_MIB / (time.perf_counter() - start)


def hash_all(source: Path) -> None:
    digest = hashlib.sha256()
    with source.open("rb", buffering=0) as file:
        while piece := file.read(1 << 20):
            digest.update(piece)


def write_plainly(source: Path, target: Path) -> None:
    with source.open("rb", buffering=0) as file, target.open("wb", buffering=0) as out:
        while piece := file.read(PIECE):
            out.write(piece)
            os.fdatasync(out.fileno())


def run_once(top: Path, source: Path, results: dict[str, list[float]]) -> None:
    results["sha256"].append(timed(lambda: hash_all(source)))
    results["fsynced write"].append(timed(lambda: write_plainly(source, top / "plain")))
    (top / "plain").unlink()
    store = DiskBlockStore.open(top / "store")
    results["add"].append(timed(lambda: import_path(store, source)))
    results["verify"].append(timed(store.verify))
    store.close()
    shutil.rmtree(top / "store")


def main(top: Path) -> None:
    top.mkdir(parents=True, exist_ok=True)
    source = top / "source"
    source.write_bytes(os.urandom(SIZE_MIB << 20))
    results: dict[str, list[float]] = {"sha256": [], "fsynced write": [], "add": [], "verify": []}
    for _ in range(RUNS):
        run_once(top, source, results)
    for name, values in results.items():
        print(f"{name:14} {statistics.median(values):7.0f} MiB/s  of {[round(value) for value in values]}")
    shutil.rmtree(top)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
