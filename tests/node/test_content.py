"""Paths, parts of files, partial CARs, tar archives and pages of directories, read at a node that has none of it."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpisa.node import content as content_module
from mpisa.node.node import Node
from mpisa.primitives.car_stream import CarFrames
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, NotFound, NotReady, Rejection, UsageError
from mpisa.primitives.selection import ByteRange, Scope, Selection
from tests.node.cluster import Cluster, running
from tests.node.test_blobs import distinct, tar_of

MIB = 1 << 20
FILES = {
    "model/weights.bin": distinct(12),
    "model/README.md": b"# hello\n",
    "LICENSE": b"Apache-2.0\n",
}


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def joined(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


async def put_tree(cluster: Cluster) -> Cid:
    return (await cluster.nodes[0].blobs.put_tar(chunks(tar_of(FILES)))).cid


def fetched(node: Node) -> int:
    return node._running.retrieval.bytes_fetched


async def test_a_path_and_part_of_a_file_fetch_only_what_they_take(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        root, node = await put_tree(cluster), cluster.nodes[1]
        found = await node.content.resolve(root, ["model", "weights.bin"])
        stat = await node.content.stat(found.cid)
        assert (stat.kind, stat.size, found.roots[0], found.roots[-1]) == ("file", 12 * MIB, root, found.cid)
        assert fetched(node) < MIB
        data = FILES["model/weights.bin"]
        assert await joined(node.content.file(found.cid, 5 * MIB - 10, MIB)) == data[5 * MIB - 10 : 6 * MIB - 10]
        assert fetched(node) < 3 * MIB
        assert await joined(node.content.file(found.cid)) == data
        assert await joined(node.content.file(found.cid, 12 * MIB)) == b""
        with pytest.raises(UsageError, match="lie outside"):
            await joined(node.content.file(found.cid, 13 * MIB))
        with pytest.raises(UsageError, match="is not a file"):
            await joined(node.content.file(root))
        with pytest.raises(NotFound, match="there is no 'nothing' in"):
            await node.content.resolve(root, ["model", "nothing"])


async def test_a_partial_car_holds_the_path_and_the_range(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        root, content = await put_tree(cluster), cluster.nodes[1].content
        found = await content.resolve(root, ["model", "weights.bin"])
        selection = Selection(Scope.ENTITY, ByteRange(MIB, 2 * MIB - 1))
        frames = CarFrames()
        blocks = frames.feed(await joined(content.car(found, selection)))
        frames.finish()
        assert frames.roots == (root,)
        data = FILES["model/weights.bin"]
        assert [cid for cid, _ in blocks] == [*found.path_blocks, found.cid, Cid.of(data[MIB : 2 * MIB])]
        with pytest.raises(Rejection, match="has more than 1000 bytes"):
            await joined(content.car(found, Selection(), max_bytes=1000))


async def test_a_tree_comes_as_a_tar_archive(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        root, content = await put_tree(cluster), cluster.nodes[1].content
        with tarfile.open(fileobj=io.BytesIO(await joined(content.tar(root, "tree")))) as archive:
            files = {item.name: archive.extractfile(item) for item in archive if item.isfile()}
            found = {name: stream.read() for name, stream in files.items() if stream is not None}
        assert found == {f"tree/{name}": data for name, data in FILES.items()}


async def test_a_directory_is_read_in_pages(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        names = {f"file-{number:03}/part": b"%d" % number for number in range(150)}
        root = (await cluster.nodes[0].blobs.put_tar(chunks(tar_of(names)))).cid
        content = cluster.nodes[1].content
        found: list[str] = []
        after: str | None = None
        while True:
            page = await content.entries(root, 64, after)
            assert len(page.entries) <= 64
            found += [entry.name for entry in page.entries]
            if page.next is None:
                break
            assert page.next == page.entries[-1].name
            after = page.next
        assert found == [f"file-{number:03}" for number in range(150)]
        whole = await content.entries(root, 150)
        assert (len(whole.entries), whole.next, whole.entries[0].kind) == (150, None, "directory")
        with pytest.raises(NotFound, match="there is no 'other' in"):
            await content.entries(root, 10, "other")


async def test_only_local_blocks_when_told_so(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        root, node = await put_tree(cluster), cluster.nodes[1]
        assert (await cluster.nodes[0].content.has(root), await node.content.has(root)) == (True, False)
        with pytest.raises(NotFound, match="is not in this store"):
            await node.content.stat(root, local_only=True)
        with pytest.raises(NotFound, match="is not in this store"):
            await joined(node.content.file(Cid.of(FILES["LICENSE"]), local_only=True))
        assert fetched(node) == 0
        await joined(cluster.nodes[0].content.tar(root, "x", local_only=True))


async def test_readings_end_with_their_reader_and_leave_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        root, node = await put_tree(cluster), cluster.nodes[1]
        found = await node.content.resolve(root, ["model", "weights.bin"])
        stream = node.content.file(found.cid)
        assert await anext(stream) == FILES["model/weights.bin"][:MIB]
        await stream.aclose()  # type: ignore[attr-defined]
        assert not node.content._open
        assert len(node._running.blocks._leases) == 0


async def test_a_reader_that_waits_for_a_peer_is_let_go_when_the_node_stops(tmp_path: Path) -> None:
    async with running(tmp_path, 2) as cluster:
        root, node = await put_tree(cluster), cluster.nodes[1]

        async def never(*arguments: object, **options: object) -> bytes:
            await asyncio.Event().wait()
            raise AssertionError

        node._running.network.exchange.fetch = never  # type: ignore[method-assign, assignment]
        reading = asyncio.create_task(node.content.stat(root))
        while not node._running.retriever._fetching:
            await asyncio.sleep(0.01)
        await cluster.stop(1)
        with pytest.raises((MpisaError, asyncio.CancelledError)):
            await reading


async def test_readings_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_module, "MAX_READINGS", 1)
    async with running(tmp_path, 1) as cluster:
        root, content = await put_tree(cluster), cluster.nodes[0].content
        stream = content.tar(root, "x")
        await anext(stream)
        with pytest.raises(NotReady, match="1 readings are open already"):
            await content.stat(root)
        await stream.aclose()  # type: ignore[attr-defined]
        assert (await content.stat(root)).kind == "directory"
