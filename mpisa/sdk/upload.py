"""Sending a file or a directory to a node as one streamed request.

A file travels as application/octet-stream, a directory as a tar made on the fly: entries in byte order of their paths,
owners, times and modes left out, symlinks as symlinks. Memory stays bounded: the tar's thread waits while
MAX_QUEUED_CHUNKS are unsent. What could not be fetched again as it was (a link that leads outside, a device) is
refused.
"""

from __future__ import annotations

import asyncio
import io
import os
import random
import stat
import tarfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from mpisa.primitives.errors import NotFound, NotReady, UsageError
from mpisa.sdk import models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpisa.sdk.async_client import Progress
    from mpisa.sdk.transport import Transport

CHUNK_BYTES: Final = 1 << 20
MAX_QUEUED_CHUNKS: Final = 4
MAX_BUSY_TRIES: Final = 5
BUSY_PAUSE_S: Final = 0.4
"""A node that has too many uploads open says so: we wait a little longer each time."""
MAX_FILES: Final = 1_000_000
STORE_SILENCE_S: Final = 600.0
"""How long a node may take, in silence, to make what was sent durable."""


@dataclass(frozen=True, slots=True)
class Item:
    """One entry of a directory: its path below the root with `/`, where it lies, and what it is."""

    name: str
    path: str
    mode: int
    size: int
    target: str = ""


async def put(
    transport: Transport, path: Path, *, profile: str | None = None, progress: Progress | None = None
) -> models.PutResult:
    """Send `path`; returns what the node stored. Raises NotFound or UsageError before anything is sent."""
    source = await asyncio.to_thread(open_source, path)
    for attempt in range(MAX_BUSY_TRIES):
        try:
            return await _send(transport, path, source, profile, progress)
        except NotReady:
            if attempt == MAX_BUSY_TRIES - 1:
                raise
            await asyncio.sleep(BUSY_PAUSE_S * (attempt + 1) * random.uniform(0.5, 1))  # noqa: S311
    raise AssertionError("the loop returns or raises")


async def _send(
    transport: Transport, path: Path, source: Source, profile: str | None, progress: Progress | None
) -> models.PutResult:
    chunks = _file_chunks(path) if source.items is None else _tar_chunks(source.items)
    return await transport.call(
        models.PutResult,
        "POST",
        "/v1/blobs",
        query={} if profile is None else {"profile": profile},
        data=_counted(chunks, source.total, progress),
        headers={"Content-Type": "application/octet-stream" if source.items is None else "application/x-tar"},
        silence=max(STORE_SILENCE_S, transport.timeout),
    )


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be sent: a directory's items (None for a file) and the bytes of content in all."""

    items: list[Item] | None
    total: int


def open_source(path: Path) -> Source:
    """Look at a path. Raises NotFound or UsageError for what can't be sent."""
    if not path.exists():
        raise NotFound(f"no such file or directory: {path}", hint="check the path")
    if path.is_dir():
        items = list_directory(path)
        return Source(items, sum(item.size for item in items))
    if not path.is_file():
        raise UsageError(f"{path}: expected a file or a directory", hint="write its content to a file first")
    return Source(None, path.stat().st_size)


def list_directory(root: Path) -> list[Item]:
    """Everything below a directory, in byte order of the paths. Raises UsageError for what can't be stored."""
    found: list[Item] = []
    pending = [("", str(root))]
    while pending:
        prefix, place = pending.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                item = _describe(prefix + entry.name, entry)
                found.append(item)
                if len(found) > MAX_FILES:
                    raise UsageError(f"{root}: more than {MAX_FILES} files", hint="publish it in parts")
                if stat.S_ISDIR(item.mode):
                    pending.append((item.name + "/", item.path))
    return sorted(found, key=lambda item: os.fsencode(item.name))


def _describe(name: str, entry: os.DirEntry[str]) -> Item:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{entry.path!r}: the name isn't UTF-8", hint="rename it") from None
    status = entry.stat(follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        target = os.readlink(entry.path)  # noqa: PTH115 - a Path would drop "./" and the last "/" of the target
        if not link_stays_inside(name, target):
            raise UsageError(
                f"{entry.path}: the symlink leads outside, to {target}",
                hint="copy what it points to: `cp -rL FROM TO`, then publish the copy",
            )
        return Item(name, entry.path, status.st_mode, 0, target)
    if stat.S_ISREG(status.st_mode):
        return Item(name, entry.path, status.st_mode, status.st_size)
    if stat.S_ISDIR(status.st_mode):
        return Item(name, entry.path, status.st_mode, 0)
    raise UsageError(
        f"{entry.path}: neither file, directory nor symlink", hint="remove it, or publish a copy without it"
    )


def link_stays_inside(name: str, target: str) -> bool:
    """Whether a symlink at `name` (a relative path) points below the root, wherever other links of the tree lead.

    ".." may only begin a target, where it climbs real directories: behind a name it would climb from where that leads.
    """
    if not target or target.startswith("/") or "\0" in target:
        return False
    parts = [part for part in target.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return climbs <= name.count("/") and ".." not in parts[climbs:]


def write_tar(items: list[Item], output: BinaryIO) -> None:
    """The directory's tar: the same bytes for the same content."""
    with tarfile.open(
        mode="w|", fileobj=output, format=tarfile.PAX_FORMAT, bufsize=CHUNK_BYTES, encoding="utf-8"
    ) as tar:
        for item in items:
            _add(tar, item)


def _add(tar: tarfile.TarFile, item: Item) -> None:
    info = tarfile.TarInfo(item.name)
    info.mode = 0o755 if stat.S_ISDIR(item.mode) or item.mode & stat.S_IXUSR else 0o644
    if stat.S_ISDIR(item.mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(item.mode):
        info.type, info.linkname = tarfile.SYMTYPE, item.target
        tar.addfile(info)
    else:
        descriptor = os.open(item.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            info.size = os.fstat(descriptor).st_size
            tar.addfile(info, stream)
            if stream.read(1):
                raise UsageError(
                    f"{item.path}: grew while it was being read", hint="try again when nobody writes to it"
                )


async def _file_chunks(path: Path) -> AsyncIterator[bytes]:
    with await asyncio.to_thread(path.open, "rb", 0) as stream:
        while chunk := await asyncio.to_thread(stream.read, CHUNK_BYTES):
            yield chunk


async def _counted(chunks: AsyncIterator[bytes], total: int, progress: Progress | None) -> AsyncIterator[bytes]:
    done = 0
    async for chunk in chunks:
        yield chunk
        done += len(chunk)
        if progress is not None:
            progress(min(done, total), total)


class _Abandoned(Exception):
    """The request ended before the tar did."""


class _Pipe(io.RawIOBase):
    """The writing end, used by the tar's thread: `write` waits while the queue is full."""

    def __init__(self, loop: asyncio.AbstractEventLoop, queue: asyncio.Queue[bytes | BaseException | None]) -> None:
        self._loop = loop
        self._queue = queue
        self._slots = threading.Semaphore(MAX_QUEUED_CHUNKS)
        self._abandoned = False

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        chunk = bytes(memoryview(data))  # type: ignore[arg-type]
        self._slots.acquire()
        if self._abandoned:
            self._slots.release()
            raise _Abandoned
        self._loop.call_soon_threadsafe(self._queue.put_nowait, chunk)
        return len(chunk)

    def finish(self, outcome: BaseException | None) -> None:
        self._loop.call_soon_threadsafe(self._queue.put_nowait, outcome)

    def taken(self) -> None:
        self._slots.release()

    def abandon(self) -> None:
        self._abandoned = True
        self._slots.release()


async def _tar_chunks(items: list[Item]) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(MAX_QUEUED_CHUNKS + 2)
    pipe = _Pipe(asyncio.get_running_loop(), queue)

    def work() -> None:
        outcome: BaseException | None = None
        try:
            write_tar(items, pipe)  # type: ignore[arg-type]
        except _Abandoned:
            return
        except (OSError, tarfile.TarError, UsageError) as error:
            outcome = error
        pipe.finish(outcome)

    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        while (chunk := await queue.get()) is not None:
            if isinstance(chunk, BaseException):
                raise chunk
            yield chunk
            pipe.taken()
    finally:
        pipe.abandon()
        await asyncio.shield(running)
