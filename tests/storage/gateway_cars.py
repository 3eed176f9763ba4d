"""The CAR files of ipfs/gateway-conformance, each in a store of its own."""

from pathlib import Path

from mpisa.primitives.cid import Cid
from storage.blockstore import MemoryBlockStore
from storage.car import import_car

HOME = Path(__file__).parents[1] / "vectors" / "gateway" / "fixtures"


def load(name: str) -> tuple[MemoryBlockStore, Cid]:
    """The blocks of one file, and its first root."""
    store = MemoryBlockStore()
    with (HOME / name).open("rb") as file:
        return store, import_car(store, file)[0]
