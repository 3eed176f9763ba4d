"""Opening the index of a store: as it is, or made anew from the packs when it can't be read."""

from pathlib import Path

from mpisa.primitives.errors import DiskFull, StoreBusy, StoreDamaged
from storage.compaction import is_retired, needs_header, retire_file
from storage.files import DirectoryLock, PackFiles
from storage.index import BlockIndex, Checkpoint
from storage.leveldb import remove_database
from storage.records import PACK_HEADER_BYTES
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
        tail = recover(packs, index, index_lost=index_lost, on_damage=on_damage)
        finish_retirements(packs, index, tail)
    except BaseException:
        index.close()
        raise
    return index, tail


def finish_retirements(packs: PackFiles, index: BlockIndex, tail: Tail) -> None:
    """Remove what a crash left of packs that the index has forgotten. Raises DiskFull and OSError.

    A repair or a collection forgets a pack before it removes the file. A pack that is still pointed at was forgotten by
    nobody: then the entry that said how long it is was lost, and is made again.
    """
    sealed = index.sealed()
    unknown: list[int] = []
    for pack in packs.numbers():
        if pack == tail.pack:
            continue
        if pack not in sealed:
            unknown.append(pack)
        elif sealed[pack] == PACK_HEADER_BYTES and (  # also where the header that says so was torn
            packs.size(pack) > PACK_HEADER_BYTES or not is_retired(packs, pack)
        ):
            retire_file(packs, pack, sealed.get(pack - 1))
    if not unknown:
        return
    used = {entry.pack for entry in index.entries()}
    for pack in unknown:
        checkpoint = Checkpoint(tail.pack, tail.length, tail.blocks)
        if pack in used:
            index.apply((), checkpoint, sync=True, sealed=(pack, packs.size(pack)))
            continue
        if needs_header(packs, pack):
            index.forget((), (), checkpoint, retired=[pack])
        retire_file(packs, pack)
