"""Files and directories there and back; whatever is wrong on the way leaves nothing behind."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpisa.primitives.car_stream import FileStarted, encode_car_header, encode_car_section
from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import IntegrityError, MpisaError, NotFound, UsageError
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs
from mpisa.primitives.unixfs_tree import symlink_escapes
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.client import Client
from mpisa.sdk.sinks import PathSink
from mpisa.sdk.upload import BATCH_BYTES, BATCHES
from storage.importer import cid_of_path
from tests.api.fake_node import FakeNode


def make_tree(root: Path) -> Path:
    (root / "weights").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "README.md").write_text("a model")
    (root / ".hidden").write_text("kept")
    (root / "weights" / "big.bin").write_bytes(os.urandom(3_500_000))
    (root / "weights" / "same.bin").write_bytes(b"same" * 500_000)
    (root / "weights" / "again.bin").write_bytes(b"same" * 500_000)
    (root / "weights" / "nothing").write_bytes(b"")
    (root / ("long-" + "n" * 200)).write_text("a long name")
    (root / "latest").symlink_to("weights/big.bin")
    (root / "weights" / "up").symlink_to("../README.md")
    return root


def content(root: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = ("link", str(path.readlink()))
        else:
            found[name] = "directory" if path.is_dir() else path.read_bytes()
    return found


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "mpisa-part" in path.name)


async def test_a_directory_there_and_back(client: AsyncClient, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model")
    seen: list[tuple[int, int | None]] = []
    stored = await client.put(source, progress=lambda done, total: seen.append((done, total)))
    assert stored.cid == str(cid_of_path(source))
    assert seen[-1][0] == seen[-1][1] == 7_500_000 + len("a model" + "kept" + "a long name")
    result = await client.get(stored.cid, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(source)
    assert (result.size, result.files, result.path) == (stored.size, 7, str(tmp_path / "copy"))
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 5_000_000])
async def test_a_file_there_and_back(client: AsyncClient, tmp_path: Path, size: int) -> None:
    source = tmp_path / "file.bin"
    source.write_bytes(os.urandom(size))
    stored = await client.put(source)
    assert (stored.cid, stored.size) == (str(cid_of_path(source)), size)
    result = await client.get(stored.cid, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert (result.size, result.files) == (size, 1)
    output = io.BytesIO()
    await client.get(stored.cid, output)
    assert output.getvalue() == source.read_bytes()


async def test_an_empty_directory_and_profiles(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    stored = await client.put(tmp_path / "void")
    await client.get(stored.cid, tmp_path / "copy")
    assert list((tmp_path / "copy").iterdir()) == []
    (tmp_path / "f").write_bytes(b"abc")
    assert (await client.put(tmp_path / "f", profile="unixfs-v0-2015")).cid.startswith("Qm")
    with pytest.raises(MpisaError, match="nonsense"):
        await client.put(tmp_path / "f", profile="nonsense")


async def test_stat_and_ls_and_pins(client: AsyncClient, tmp_path: Path) -> None:
    stored = await client.put(make_tree(tmp_path / "model"))
    assert (await client.stat(stored.cid)).kind == "directory"
    assert "README.md" in {entry.name for entry in await client.ls(stored.cid)}
    assert [pin.cid for pin in await client.pins()] == [stored.cid]
    await client.unpin(stored.cid)
    with pytest.raises(NotFound):
        await client.unpin(stored.cid)
    assert (await client.pin(stored.cid, recursive=False, name="x")).kind == "direct"


async def test_nothing_is_overwritten_unless_asked(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    stored = await client.put(tmp_path / "a")
    (tmp_path / "there").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"):
        await client.get(stored.cid, tmp_path / "there")
    assert (tmp_path / "there").read_bytes() == b"old"
    await client.get(stored.cid, tmp_path / "there", overwrite=True)
    assert (tmp_path / "there").read_bytes() == b"new"
    directory = await client.put(make_tree(tmp_path / "model"))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "old").write_bytes(b"old")
    with pytest.raises(UsageError, match="exists already"):
        await client.get(directory.cid, tmp_path / "folder")
    await client.get(directory.cid, tmp_path / "folder", overwrite=True)
    assert content(tmp_path / "folder") == content(tmp_path / "model")
    assert left_behind(tmp_path) == []


async def test_a_dangling_link_is_not_followed(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    stored = await client.put(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(UsageError, match="exists already"):
        await client.get(stored.cid, tmp_path / "link")
    assert not (tmp_path / "outside").exists()


async def test_bad_places_are_named(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    stored = await client.put(tmp_path / "a")
    with pytest.raises(UsageError, match="no such directory"):
        await client.get(stored.cid, tmp_path / "missing" / "b")
    with pytest.raises(NotFound, match="no such file or directory"):
        await client.put(tmp_path / "missing")
    directory = await client.put(make_tree(tmp_path / "model"))
    with pytest.raises(UsageError, match="a directory can't be written to a stream"):
        await client.get(directory.cid, io.BytesIO())


async def test_what_downloads_of_other_content_left_is_removed(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"new")
    stored = await client.put(tmp_path / "a")
    (tmp_path / ".copy.mpisa-part-123456789012").mkdir()
    (tmp_path / ".copy.mpisa-part-123456789012" / "half").write_bytes(b"half")
    (tmp_path / ".other.mpisa-part-123456789012").write_bytes(b"of another destination")
    running = PathSink(tmp_path / "copy", Cid.of(b"still going on"))
    running.take(FileStarted((), 4))
    await client.get(stored.cid, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"new"
    part = f".copy.mpisa-part-{str(Cid.of(b'still going on'))[-12:]}"
    assert left_behind(tmp_path) == [part, f"{part}.lock", ".other.mpisa-part-123456789012"]
    running.discard()
    assert left_behind(tmp_path) == [".other.mpisa-part-123456789012"]


def cut_after(count: int):  # type: ignore[no-untyped-def]
    async def tamper(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        left = count
        async for part in parts:
            if left < len(part):
                yield part[:left]
                return
            left -= len(part)
            yield part

    return tamper


def flip_at(offset: int):  # type: ignore[no-untyped-def]
    async def tamper(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        at = 0
        async for part in parts:
            if at <= offset < at + len(part):
                changed = bytearray(part)
                changed[offset - at] ^= 1
                part = bytes(changed)
            at += len(part)
            yield part

    return tamper


async def append_garbage(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in parts:
        yield part
    block = b"more"
    yield encode_car_section(Cid.of(block), len(block)) + block


TAMPERS = {
    "cut early": cut_after(10),
    "cut late": cut_after(2_000_000),
    "header flipped": flip_at(20),
    "block flipped": flip_at(1_500_000),
    "too much": append_garbage,
}


@pytest.mark.parametrize("how", sorted(TAMPERS))
async def test_a_lying_node_gets_nothing_written(client: AsyncClient, node: FakeNode, tmp_path: Path, how: str) -> None:
    stored = await client.put(make_tree(tmp_path / "model"))
    node.blobs.tamper = TAMPERS[how]
    with pytest.raises(IntegrityError):
        await client.get(stored.cid, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()
    assert left_behind(tmp_path) == []


async def test_another_root_is_refused(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"asked for")
    (tmp_path / "b").write_bytes(b"something else")
    wanted, other = await client.put(tmp_path / "a"), await client.put(tmp_path / "b")

    async def swap(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        node.blobs.tamper = None
        async for part in node.blobs.car(Cid.parse(other.cid)):
            yield part

    node.blobs.tamper = swap
    with pytest.raises(IntegrityError, match="expected"):
        await client.get(wanted.cid, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def directory_block(links: list[tuple[str, Cid]]) -> tuple[Cid, bytes]:
    data = encode_unixfs(UnixFsNode(FileType.DIRECTORY))
    block = encode_node(PBNode(tuple(PBLink(cid.to_bytes(), name, 1) for name, cid in links), data))
    return Cid.of(block, codec=DAG_PB), block


def symlink_block(target: str) -> tuple[Cid, bytes]:
    block = encode_node(PBNode((), encode_unixfs(UnixFsNode(FileType.SYMLINK, target.encode()))))
    return Cid.of(block, codec=DAG_PB), block


FILE = (Cid.of(b"evil"), b"evil")
HOSTILE: dict[str, list[tuple[str, tuple[Cid, bytes]]]] = {
    "parent": [("..", FILE)],
    "slash": [("../../evil", FILE)],
    "absolute": [("/tmp/evil", FILE)],
    "empty": [("", FILE)],
    "zero": [("a\0b", FILE)],
    "twice": [("a", FILE), ("a", FILE)],
    "link and file": [("a", symlink_block("..")), ("a", FILE)],
    "link up": [("a", symlink_block("../secret"))],
    "link absolute": [("a", symlink_block("/etc/passwd"))],
    "link through": [("a", symlink_block("b/../../.."))],
}


@pytest.mark.parametrize("how", sorted(HOSTILE))
async def test_hostile_trees_write_nothing_outside(
    client: AsyncClient, node: FakeNode, tmp_path: Path, how: str
) -> None:
    entries = HOSTILE[how]
    root, block = directory_block([(name, cid) for name, (cid, _) in entries])

    async def hostile(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield encode_car_header((root,))
        for cid, data in [(root, block), *[item for _, item in entries]]:
            yield encode_car_section(cid, len(data)) + data

    node.blobs.tamper = hostile
    work = tmp_path / "work"
    work.mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(IntegrityError):
        await client.get(str(root), work / "copy")
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize(
    ("name", "target", "inside"),
    [
        ("a", "b", True),
        ("a", "./b/./c", True),
        ("d/a", "./.././b", True),
        # "d/s" may be a link to "..": two links that each seem to stay inside would together lead out.
        ("a", "d/s/..", False),
        ("a", "./b/../c", False),
        ("d/a", "../b", True),
        ("d/a", "../../b", False),
        ("a", "..", False),
        ("a", "b/../..", False),
        ("a", "b/../../model/a", False),
        ("a", "/etc", False),
        ("d/e/a", "../../b", True),
    ],
)
def test_links_that_stay_inside(name: str, target: str, inside: bool) -> None:
    assert symlink_escapes(tuple(name.split("/")), target) is not inside


async def test_what_cannot_come_back_is_not_sent(client: AsyncClient, tmp_path: Path) -> None:
    root = tmp_path / "model"
    root.mkdir()
    (root / "bad").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="the symlink leads outside, to /etc/passwd"):
        await client.put(root)
    (root / "bad").unlink()
    os.mkfifo(root / "pipe")
    with pytest.raises(UsageError, match="neither file, directory nor symlink"):
        await client.put(root)
    with pytest.raises(UsageError, match="expected a file or a directory"):
        await client.put(root / "pipe")


async def test_a_put_that_is_refused_ends_the_building(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    root = tmp_path / "model"
    root.mkdir()
    for number in range(BATCHES + 3):
        (root / f"{number}").write_bytes(os.urandom(BATCH_BYTES))
    object.__setattr__(node.config.limits, "upload_bytes", 1 << 20)
    with pytest.raises(MpisaError, match=r"upload: expected at most 1048576 bytes|cut before the answer"):
        await client.put(root)


async def test_an_interrupted_download_is_kept(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model")
    stored = await client.put(source)
    stuck = asyncio.Event()

    async def stall(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        sent = 0
        while sent < 2_500_000:
            yield (part := await anext(parts))
            sent += len(part)
        await asyncio.Event().wait()

    node.blobs.tamper = stall
    download = asyncio.create_task(
        client.get(stored.cid, tmp_path / "copy", progress=lambda done, _: done and stuck.set())
    )
    async with asyncio.timeout(5):
        await stuck.wait()
        download.cancel()
        with pytest.raises(asyncio.CancelledError):
            await download
    assert not (tmp_path / "copy").exists()
    assert left_behind(tmp_path) == [f".copy.mpisa-part-{stored.cid[-12:]}"]


async def test_a_synchronous_client_that_is_closed_lets_go(node: FakeNode, client: AsyncClient, tmp_path: Path) -> None:
    stored = await client.put(make_tree(tmp_path / "model"))
    stuck, loop = asyncio.Event(), asyncio.get_running_loop()

    async def stall(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        yield await anext(parts)
        stuck.set()
        await asyncio.Event().wait()

    node.blobs.tamper = stall
    sync = Client(home=node.home)

    def work() -> str:
        try:
            sync.get(stored.cid, tmp_path / "copy")
        except concurrent.futures.CancelledError:
            return "cancelled"
        return "done"

    getting = loop.run_in_executor(None, work)
    async with asyncio.timeout(10):
        await stuck.wait()
        await asyncio.to_thread(sync.close)
        assert await getting == "cancelled"
    assert left_behind(tmp_path) in ([], [f".copy.mpisa-part-{stored.cid[-12:]}"])
    node.blobs.tamper = None
    await client.get(stored.cid, tmp_path / "copy")
    assert left_behind(tmp_path) == []
