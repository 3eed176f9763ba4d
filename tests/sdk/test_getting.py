"""Paths, ranges, archives, and downloads that go on: whatever is written was hashed here."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, NotFound, StoreBusy, UsageError
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.ranges import parse_range
from mpisa.sdk.sinks import PathSink
from storage.importer import import_path
from storage.profiles import DEFAULT_PROFILE
from storage.reader import DagReader
from storage.tar_export import write_tar
from tests.api.fake_node import FakeNode
from tests.sdk.test_transfer import content, left_behind, make_tree

SIZE = 5_000_000


@pytest.fixture
def asked(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> list[Cid]:
    """The single blocks that were asked of the node."""
    found: list[Cid] = []
    real = node.blobs.block

    async def block(cid: Cid) -> bytes:
        found.append(cid)
        return await real(cid)

    monkeypatch.setattr(node.blobs, "block", block)
    return found


async def test_a_path_below_a_cid(client: AsyncClient, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model")
    root = (await client.put(source)).cid
    result = await client.get(f"{root}/weights/same.bin", tmp_path / "same")
    assert (tmp_path / "same").read_bytes() == (source / "weights" / "same.bin").read_bytes()
    assert result.cid == await client.find(f"/ipfs/{root}/weights/same.bin")
    await client.get(f"{root}/empty", tmp_path / "empty")
    assert list((tmp_path / "empty").iterdir()) == []
    with pytest.raises(IntegrityError, match="up is a symlink that leads outside"):
        await client.get(f"{root}/weights", tmp_path / "weights")
    assert (await client.stat(f"{root}/weights")).kind == "directory"
    assert "up" in {entry.name for entry in await client.ls(f"{root}/weights")}
    with pytest.raises(NotFound, match=r"there is no 'nope' in .*/weights"):
        await client.get(f"{root}/weights/nope", tmp_path / "none")
    with pytest.raises(UsageError, match="a path goes down only"):
        await client.get(f"{root}/../x", tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("span", "start", "end"),
    [
        ("0-0", 0, 1),
        ("0-1048575", 0, 1 << 20),
        ("1048575-1048576", (1 << 20) - 1, (1 << 20) + 1),
        ("4999999-", SIZE - 1, SIZE),
        ("-10", SIZE - 10, SIZE),
        ("-9999999", 0, SIZE),
        ("100-99999999", 100, SIZE),
    ],
)
@pytest.mark.parametrize("profile", ["unixfs-v1-2025", "unixfs-v0-2015"])
async def test_ranges(
    client: AsyncClient, asked: list[Cid], tmp_path: Path, span: str, start: int, end: int, profile: str
) -> None:
    data = os.urandom(SIZE)
    (tmp_path / "file").write_bytes(data)
    root = (await client.put(tmp_path / "file", profile=profile)).cid
    result = await client.get(root, tmp_path / "part", span=span)
    assert (tmp_path / "part").read_bytes() == data[start:end]
    assert (result.size, result.blocks) == (end - start, len(asked))
    chunk = 1 << 20 if profile == "unixfs-v1-2025" else 256 << 10
    assert len(asked) == (end - 1) // chunk - start // chunk + 2
    output = io.BytesIO()
    await client.get(root, output, span=span)
    assert output.getvalue() == data[start:end]
    assert left_behind(tmp_path) == []


async def test_ranges_that_make_no_sense(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    root = (await client.put(tmp_path / "file")).cid
    with pytest.raises(UsageError, match="no byte of the range lies in"):
        await client.get(root, tmp_path / "part", span="10-20")
    (tmp_path / "tree").mkdir()
    with pytest.raises(UsageError, match="is not a file"):
        await client.get((await client.put(tmp_path / "tree")).cid, tmp_path / "part", span="0-1")
    for wrong in ("", "-", "5", "a-b", "5-4", "-0", "1-2-3", "\uff19-9", f"0-{1 << 63}"):
        with pytest.raises(UsageError, match="range"):
            parse_range(wrong)
    with pytest.raises(UsageError, match="exclude each other"):
        await client.get(root, tmp_path / "part", span="0-1", tar="x")
    assert not (tmp_path / "part").exists()
    assert left_behind(tmp_path) == []


async def test_a_lying_node_proves_no_range(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(SIZE))
    root = (await client.put(tmp_path / "file")).cid

    async def lie(cid: Cid) -> bytes:
        block = node.blobs.store.get(cid)
        return block if str(cid) == root else block[:-1] + bytes([block[-1] ^ 1])

    monkeypatch.setattr(node.blobs, "block", lie)
    with pytest.raises(IntegrityError, match="does not match its CID"):
        await client.get(root, tmp_path / "part", span="0-10")
    assert not (tmp_path / "part").exists()
    assert left_behind(tmp_path) == []


async def test_an_archive_is_what_the_directory_is(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model")
    root = (await client.put(source)).cid
    result = await client.get(root, tmp_path / "model.tar", tar="top")
    assert result.files == 7
    archive = (tmp_path / "model.tar").read_bytes()
    assert archive == b"".join(write_tar(DagReader(node.blobs.store.get), Cid.parse(root), "top"))
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert content(tmp_path / "out" / "top") == content(source)
    output = io.BytesIO()
    await client.get(root, output, tar="top")
    assert output.getvalue() == archive
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize("profile", ["unixfs-v1-2025", "unixfs-v0-2015"])
@pytest.mark.parametrize("kept", [0, 1, 1_000_000, 2_600_000, SIZE])
async def test_a_file_goes_on_where_it_stopped(
    client: AsyncClient, asked: list[Cid], tmp_path: Path, kept: int, profile: str
) -> None:
    data = os.urandom(SIZE)
    (tmp_path / "file").write_bytes(data)
    root = (await client.put(tmp_path / "file", profile=profile)).cid
    (tmp_path / f".copy.mpisa-part-{root[-12:]}").write_bytes(data[:kept])
    result = await client.get(root, tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == data
    chunk = 1 << 20 if profile == "unixfs-v1-2025" else 256 << 10
    whole = kept if kept == SIZE else kept // chunk * chunk
    assert whole <= result.reused <= whole + 20 * 64
    assert sum(1 for cid in asked if str(cid) != root) == -(-(SIZE - whole) // chunk)
    assert left_behind(tmp_path) == []


async def test_what_is_left_is_not_trusted(client: AsyncClient, tmp_path: Path) -> None:
    """Wrong bytes, wrong kinds, names that the tree hasn't, a hard link to somebody's file: only the tree comes out."""
    source = make_tree(tmp_path / "model")
    root = (await client.put(source)).cid
    part = tmp_path / f".copy.mpisa-part-{root[-12:]}"
    (part / "weights").mkdir(parents=True)
    wrong = bytearray((source / "weights" / "big.bin").read_bytes())
    wrong[1_500_000] ^= 1
    (part / "weights" / "big.bin").write_bytes(bytes(wrong) + b"and more")
    (tmp_path / "mine").write_bytes(b"not to be touched")
    (part / "weights" / "again.bin").hardlink_to(tmp_path / "mine")
    (part / "weights" / "same.bin").symlink_to(tmp_path / "mine")
    (part / "weights" / "stranger").write_bytes(b"who put this here?")
    (part / "empty").symlink_to(tmp_path)
    (part / "README.md").mkdir()
    (part / "latest").write_bytes(b"no link")
    (part / "strangers").mkdir()
    (part / "strangers" / "one").write_bytes(b"")
    result = await client.get(root, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(source)
    assert (tmp_path / "mine").read_bytes() == b"not to be touched"
    assert result.reused == 3_500_000 - (1 << 20)
    assert left_behind(tmp_path) == []


async def test_a_tree_goes_on_where_it_was_cut(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model")
    root = (await client.put(source)).cid

    async def cut(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        sent = 0
        async for part in parts:
            yield part
            sent += len(part)
            if sent > 3_000_000:
                raise NotFound("the provider has gone")

    node.blobs.tamper = cut
    result = await client.get(root, tmp_path / "copy")
    assert content(tmp_path / "copy") == content(source)
    assert 0 < result.reused < result.size
    assert left_behind(tmp_path) == []


async def test_modes_and_times_come_along(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    source = tmp_path / "tool"
    (source / "bin").mkdir(parents=True)
    (source / "bin" / "run").write_bytes(b"#!/bin/sh")
    (source / "bin" / "run").chmod(0o754)
    (source / "bin" / "link").symlink_to("run")
    (source / "bin").chmod(0o711)
    for place in ("bin/run", "bin/link", "bin"):
        os.utime(source / place, ns=(5, 1_700_000_000_000_000_123), follow_symlinks=False)
    keeping = DEFAULT_PROFILE.replace(preserve_mode=True, preserve_mtime=True)
    root = str(import_path(node.blobs.store, source, keeping).cid)
    await client.get(root, tmp_path / "copy")
    for place in ("bin/run", "bin/link", "bin"):
        one, two = (source / place).lstat(), (tmp_path / "copy" / place).lstat()
        assert (one.st_mode, one.st_mtime_ns) == (two.st_mode, two.st_mtime_ns), place
    output = io.BytesIO()
    await client.get(root, output, tar="tool")
    assert output.getvalue() == b"".join(write_tar(DagReader(node.blobs.store.get), Cid.parse(root), "tool"))


async def test_discard_begins_anew(client: AsyncClient, asked: list[Cid], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(SIZE))
    root = (await client.put(tmp_path / "file")).cid
    part = tmp_path / f".copy.mpisa-part-{root[-12:]}"
    part.write_bytes((tmp_path / "file").read_bytes()[: SIZE - 1])
    result = await client.get(root, tmp_path / "copy", discard=True)
    assert (result.reused, asked) == (0, [])
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()


async def test_one_download_at_a_time_writes_to_a_place(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    root = (await client.put(tmp_path / "file")).cid
    other = PathSink(tmp_path / "copy", Cid.parse(root))
    with pytest.raises(StoreBusy, match="another download of the same content"):
        await client.get(root, tmp_path / "copy")
    other.discard()
    await client.get(root, tmp_path / "copy")
