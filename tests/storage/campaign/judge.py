"""What must hold after a kill, whatever the moment: all that was acknowledged is there, each byte right, in a store
that opens and verifies.

A fork judges, as a fork was killed: the campaign's own process never opens a store.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpisa.primitives.errors import NotFound
from storage.packs import DiskBlockStore
from storage.pins import PinStore
from tests.storage.campaign.victims import PACK_BYTES, dag

MAX_FINDINGS = 20


@dataclass
class Promises:
    """What the processes of one home have acknowledged so far: DAGs by their numbers."""

    stored: set[int] = field(default_factory=set)
    pinned: set[int] = field(default_factory=set)
    findings: list[str] = field(default_factory=list)
    collections: int = 0
    packs_retired: int = 0
    is_open: bool = False

    def hear(self, what: str, *details: Any) -> None:
        """One line of a victim."""
        match what, details:
            case "open", ():
                self.is_open = True
            case "stored", (number,):
                self.stored.add(number)
            case "pinned", (number,):
                self.pinned.add(number)
            case "unpinning", (number,):
                self.pinned.discard(number)
            case "collected", (removed, rewritten):
                self.collections += 1
                self.packs_retired += removed + rewritten
            case "wrong", (cid,):
                self.findings.append(f"a read of {cid} gave other bytes")

    @property
    def count(self) -> int:
        """How many DAGs are promised."""
        return len(self.stored | self.pinned)


def judge(home: Path, promises: Promises) -> list[str]:
    """What is wrong; nothing, it is hoped."""
    store = DiskBlockStore.open(home / "store", max_pack_bytes=PACK_BYTES)
    pins = PinStore(home / "pins")
    try:
        found = [text for number in sorted(promises.stored | promises.pinned) for text in _lost(store, number)]
        found += [f"DAG {number} isn't pinned" for number in sorted(promises.pinned) if not _is_pinned(pins, number)]
        report = store.verify()
        found += [f"{damage.file} at {damage.offset}: {damage.reason}" for damage in report.damages]
        listed = sum(1 for _ in store.cids())
        if not report.blocks >= listed == store.stats().blocks:  # a pack that is being retired has some twice
            found.append(f"{listed} blocks listed, {report.blocks} in packs, {store.stats().blocks} counted")
        return found[:MAX_FINDINGS]
    finally:
        pins.close()
        store.close()


def _lost(store: DiskBlockStore, number: int) -> list[str]:
    found = []
    for cid, data in dag(number):
        try:
            if store.get(cid) != data:
                found.append(f"{cid} of DAG {number} has other bytes")
        except NotFound:
            found.append(f"{cid} of DAG {number} is lost")
    return found


def _is_pinned(pins: PinStore, number: int) -> bool:
    return pins.is_pinned(dag(number)[-1][0])
