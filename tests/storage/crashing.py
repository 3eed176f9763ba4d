"""A machine that loses its power at a chosen operation, and what its disk then holds.

Every file operation and every write of the index is counted; the chosen one does not happen, or happens in part, and
nothing does after it. `remains` copies the store as the disk has it: packs cut to what was synced and some of what
was written since, the index's log likewise.
"""

import os
import random
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from storage.files import OsFiles
from storage.leveldb import Database


class PowerCut(BaseException):
    """Everything ends here: no handler of errors may catch it."""


class Machine(OsFiles):
    """See the module; `cut_at` is the number of the operation at which the power goes, None for never."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.operations = 0
        self.cut_at: int | None = None
        self.is_off = False
        self._synced: dict[str, int] = {}
        self._log: tuple[str, int] = ("", 0)

    def watch(self, database: Database) -> None:
        """Count the writes of an index too, and remember how much of its log is synced."""
        write = database.write

        def counted(changes: Iterable[tuple[bytes, bytes | None]], *, sync: bool) -> None:
            listed = list(changes)
            if self._is_cut():
                if self.rng.random() < 0.5:
                    write(listed, sync=False)
                raise PowerCut
            write(listed, sync=sync)
            if sync:
                newest = max(database.path.glob("*.log"))
                self._log = (newest.name, newest.stat().st_size)

        database.write = counted  # type: ignore[method-assign]

    def _is_cut(self) -> bool:
        if self.is_off:
            raise PowerCut
        self.operations += 1
        self.is_off = self.cut_at is not None and self.operations >= self.cut_at
        return self.is_off

    def open(self, path: Path, *, create: bool) -> int:
        if create:
            if self._is_cut():
                raise PowerCut
            self._synced[path.name] = 0
        return super().open(path, create=create)

    def write(self, descriptor: int, buffers: Sequence[bytes | memoryview], offset: int) -> int:
        if self._is_cut():
            data = b"".join(buffers)
            super().write(descriptor, [data[: self.rng.randrange(len(data) + 1)]], offset)
            raise PowerCut
        return super().write(descriptor, buffers, offset)

    def sync(self, descriptor: int) -> None:
        if self._is_cut():
            raise PowerCut
        super().sync(descriptor)
        self._synced[_name(descriptor)] = os.fstat(descriptor).st_size

    def truncate(self, descriptor: int, length: int) -> None:
        if self._is_cut():
            if self.rng.random() < 0.5:
                super().truncate(descriptor, length)
            raise PowerCut
        super().truncate(descriptor, length)
        name = _name(descriptor)
        self._synced[name] = min(self._synced.get(name, length), length)

    def sync_directory(self, path: Path) -> None:
        if self._is_cut():
            raise PowerCut
        super().sync_directory(path)

    def remains(self, store: Path, target: Path) -> None:
        """Copy a store as the disk has it after the power went."""
        shutil.copytree(store, target)
        for pack in (target / "packs").iterdir():
            self._cut(pack, self._synced.get(pack.name, pack.stat().st_size))
        for log in (target / "index").glob("*.log"):
            self._cut(log, self._log[1] if log.name == self._log[0] else 0)

    def _cut(self, file: Path, synced: int) -> None:
        size = file.stat().st_size
        if size > synced:
            os.truncate(file, self.rng.randrange(synced, size + 1))


def _name(descriptor: int) -> str:
    return Path(f"/proc/self/fd/{descriptor}").readlink().name.removesuffix(" (deleted)")
