"""Opening the index of a store: as it is, or made anew from the packs when it can't be read."""

from pathlib import Path

from mpisa.primitives.errors import DiskFull, StoreBusy, StoreDamaged
from storage.files import DirectoryLock, PackFiles
from storage.index import BlockIndex
from storage.leveldb import remove_database
from storage.recovery import OnDamage, PackDamaged, Tail, recover


def open_index(path: Path, packs: PackFiles, on_damage: OnDamage) -> tuple[BlockIndex, Tail, bool]:
    """The index in agreement with the packs, where they end, and whether it had to be made anew from them.

    Raises StoreDamaged for damaged packs (unless `on_damage` lets them pass), StoreBusy, DiskFull and OSError.
    """
    try:
        return (*_agree(path, packs, index_lost=False, on_damage=on_damage), False)
    except (PackDamaged, DiskFull, StoreBusy):
        raise
    except StoreDamaged:
        remove_database(path)
    return (*_agree(path, packs, index_lost=True, on_damage=on_damage), True)


def drop_unreadable_index(path: Path) -> None:
    """Remove the index of the store in `path` if it can't be read to its end, so that opening makes it anew."""
    if not (path / "index").is_dir():
        return
    lock = DirectoryLock(path)
    try:
        index = BlockIndex(path / "index")
        try:
            for _ in index.entries():
                pass
        finally:
            index.close()
    except StoreDamaged:
        remove_database(path / "index")
    finally:
        lock.release()


def _agree(path: Path, packs: PackFiles, *, index_lost: bool, on_damage: OnDamage) -> tuple[BlockIndex, Tail]:
    index = BlockIndex(path)
    try:
        return index, recover(packs, index, index_lost=index_lost, on_damage=on_damage)
    except BaseException:
        index.close()
        raise
