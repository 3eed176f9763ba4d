"""Fetching a file or directory: a CAR stream, checked block by block here; it appears whole or not at all.

A path is written beside its destination under a temporary name and renamed at the end; what a failed or killed download
left behind is removed. Nothing is ever written outside: names are single path segments, files are created exclusively
and without following links, and a symlink that leads outside is refused. A file object gets a single file as it comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol
from urllib.parse import quote

from mpisa.primitives.car_stream import (
    CarStreamVerifier,
    DirectoryEntered,
    Event,
    FileBytes,
    FileEnded,
    FileStarted,
    SymlinkFound,
    TreeEnded,
)
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import DiskFull, IntegrityError, UsageError
from mpisa.sdk import models
from mpisa.sdk.upload import link_stays_inside

if TYPE_CHECKING:
    from mpisa.sdk.async_client import Progress
    from mpisa.sdk.transport import Transport

CAR_TYPE: Final = "application/vnd.ipld.car"
CHUNK_BYTES: Final = 1 << 20
MIN_SILENCE_S: Final = 120.0
"""The node may have to find providers before the first byte."""
_PART: Final = ".mpisa-part-"


class Sink(Protocol):
    """Where proven events go."""

    path: Path | None
    files: int

    def take(self, event: Event) -> None: ...
    def finish(self) -> None: ...
    def discard(self) -> None: ...


async def get(
    transport: Transport,
    cid: str,
    output: str | Path | BinaryIO,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> models.GetResult:
    """Fetch `cid` to a path or a binary file object; returns once every byte was hashed here."""
    root = Cid.parse(cid)
    root.require_supported()
    sink: Sink
    if isinstance(output, (str, Path)):
        sink = await asyncio.to_thread(PathSink, output, overwrite)
    else:
        sink = StreamSink(output)
    work = _Download(root, sink)
    try:
        await _receive(transport, root, work, progress)
        await asyncio.to_thread(work.finish)
    except OSError as error:
        await asyncio.to_thread(sink.discard)
        raise _disk_error(error, sink) from error
    except BaseException:
        await asyncio.shield(asyncio.to_thread(sink.discard))
        raise
    return models.GetResult(
        cid=cid,
        path=None if sink.path is None else str(sink.path),
        size=work.size,
        blocks=work.blocks,
        files=sink.files,
    )


async def _receive(transport: Transport, root: Cid, work: _Download, progress: Progress | None) -> None:
    silence = max(MIN_SILENCE_S, transport.timeout)
    writing: asyncio.Future[None] | None = None
    path = f"/ipfs/{quote(str(root), safe='')}"
    async with transport.stream(
        "GET", path, query={"format": "car"}, headers={"Accept": CAR_TYPE}, silence=silence
    ) as answer:
        try:
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                if writing is not None:
                    await writing
                    _report(work, progress)
                writing = asyncio.ensure_future(asyncio.to_thread(work.feed, chunk))
        finally:
            if writing is not None:
                await asyncio.shield(writing)
    _report(work, progress)


def _report(work: _Download, progress: Progress | None) -> None:
    if progress is not None:
        progress(work.received, work.total)


class _Download:
    """Feeds bytes to the verifier and its events to a sink; runs in a worker thread."""

    def __init__(self, root: Cid, sink: Sink) -> None:
        self._verifier = CarStreamVerifier(root)
        self._sink = sink
        self.received = 0
        self.size = 0
        self.blocks = 0
        self.total: int | None = None

    def feed(self, data: bytes) -> None:
        """Check and write what these bytes complete."""
        for event in self._verifier.feed(data):
            self._take(event)

    def finish(self) -> None:
        """Check that all of it came, and make it appear."""
        for event in self._verifier.finish():
            self._take(event)
        self._sink.finish()

    def _take(self, event: Event) -> None:
        if isinstance(event, FileBytes):
            self.received += len(event.data)
        elif isinstance(event, FileStarted) and not event.path:
            self.total = event.size
        elif isinstance(event, TreeEnded):
            self.size, self.blocks = event.size, event.blocks
        self._sink.take(event)


class StreamSink:
    """A single file, written as it is proven; what was written before an error can't be taken back."""

    def __init__(self, output: BinaryIO) -> None:
        self._output = output
        self.path: Path | None = None
        self.files = 0

    def take(self, event: Event) -> None:
        if isinstance(event, FileBytes):
            self._output.write(event.data)
        elif isinstance(event, FileStarted):
            self.files += 1
        elif isinstance(event, (DirectoryEntered, SymlinkFound)):
            what = "a directory" if isinstance(event, DirectoryEntered) else "a symlink"
            raise UsageError(f"{what} can't be written to a stream", hint="give a path: `mpisa get CID -o PATH`")

    def finish(self) -> None:
        self._output.flush()

    def discard(self) -> None:
        """Nothing to take back."""


class PathSink:
    """A file or directory that appears at `path` when all of it is there."""

    def __init__(self, output: str | Path, overwrite: bool) -> None:
        path = Path(output).expanduser()
        self.path: Path | None = path
        self._path = path
        self._overwrite = overwrite
        self.files = 0
        self._file: BinaryIO | None = None
        if not path.name or path.name == "..":
            raise UsageError(f"{path}: expected the name of a file or directory to make")
        if not path.parent.is_dir():
            raise UsageError(f"{path.parent}: no such directory", hint=f"mkdir -p {path.parent}")
        self._refuse_existing()
        _remove_leftovers(path)
        self._part = path.with_name(f".{path.name[:100]}{_PART}{os.getpid()}-{secrets.token_hex(4)}")

    def take(self, event: Event) -> None:
        if isinstance(event, FileBytes):
            assert self._file is not None
            self._file.write(event.data)
        elif isinstance(event, FileStarted):
            self._file = self._create(self._place(event.path))
            self.files += 1
        elif isinstance(event, FileEnded):
            self._close()
        elif isinstance(event, DirectoryEntered):
            self._place(event.path).mkdir(mode=0o755)
        elif isinstance(event, SymlinkFound):
            if not event.path or not link_stays_inside("/".join(event.path), event.target):
                raise IntegrityError(
                    f"{'/'.join(event.path) or 'the root'} is a symlink that leads outside, to {event.target[:200]!r}",
                    hint="refused: whoever published this may mean harm",
                )
            self._place(event.path).symlink_to(event.target)

    def finish(self) -> None:
        """Put it in place. Raises UsageError when something came there in the meantime."""
        if os.path.lexists(self._path):
            self._refuse_existing()
            self._replace()
            return
        if self._part.is_dir():
            self._part.rename(self._path)
            return
        try:
            os.link(self._part, self._path)
        except FileExistsError:
            self._refuse_existing()
            raise
        except OSError:
            self._part.rename(self._path)
            return
        self._part.unlink()

    def discard(self) -> None:
        """Remove what was written."""
        with contextlib.suppress(OSError):
            self._close()
        _remove(self._part)

    def _replace(self) -> None:
        if (self._path.is_dir() and not self._path.is_symlink()) or self._part.is_dir():
            old = self._part.with_name(self._part.name + "-old")
            self._path.rename(old)
            self._part.rename(self._path)
            _remove(old)
        else:
            self._part.replace(self._path)

    def _refuse_existing(self) -> None:
        if not self._overwrite and os.path.lexists(self._path):
            raise UsageError(f"{self._path} exists already", hint="choose another path, or give --overwrite")

    def _place(self, path: tuple[str, ...]) -> Path:
        for name in path:
            if name in ("", ".", "..") or "/" in name or "\0" in name:
                raise IntegrityError(f"a directory holds the name {name[:100]!r}", hint="refused: it leads outside")
        return self._part.joinpath(*path)

    def _create(self, place: Path) -> BinaryIO:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(place, flags, 0o644), "wb")

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _remove_leftovers(path: Path) -> None:
    """Remove the parts of downloads to this path whose process is gone."""
    prefix = f".{path.name[:100]}{_PART}"
    for left in path.parent.glob(f".*{_PART}*"):
        owner = left.name.removeprefix(prefix).partition("-")[0]
        if left.name.startswith(prefix) and owner.isdecimal() and not _alive(int(owner)):
            _remove(left)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _disk_error(error: OSError, sink: Sink) -> Exception:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = "" if sink.path is None else f" for {sink.path}"
        return DiskFull(f"no space left{where}", hint="free some, then get it again; nothing was kept of this try")
    return error
