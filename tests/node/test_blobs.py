"""Bytes through real nodes: put, found and fetched elsewhere, looked into, pinned, refused."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpisa.node.blobs import BlobStore
from mpisa.primitives.car_stream import CarStreamVerifier, FileBytes, TreeEnded
from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.errors import NotFound, Rejection, Unreachable, UsageError
from tests.node.cluster import Cluster, running

MIB = 1 << 20


async def chunks(data: bytes, size: int = 100_000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def content(size: int) -> bytes:
    return bytes((index * 31 + (index >> 8) * 7) & 0xFF for index in range(4096)) * (size // 4096) + bytes(size % 4096)


def distinct(blocks: int) -> bytes:
    return b"".join(number.to_bytes(8, "big") * (MIB // 8) for number in range(blocks))


async def download(blobs: BlobStore, cid: Cid) -> tuple[bytes, int]:
    """The file's bytes, every block hashed as a client does, and the number of blocks."""
    verifier = CarStreamVerifier(cid)
    events = []
    async for piece in blobs.car(cid):
        events += verifier.feed(piece)
    events += verifier.finish()
    found = b"".join(event.data for event in events if isinstance(event, FileBytes))
    (blocks,) = [event.blocks for event in events if isinstance(event, TreeEnded)]
    return found, blocks


def tar_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


async def test_a_file_put_at_one_node_is_fetched_whole_from_another(tmp_path: Path) -> None:
    data = distinct(40)
    async with running(tmp_path) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(data))
        assert (result.size, result.blocks) == (len(data), 41)
        found, blocks = await download(cluster.nodes[3].blobs, result.cid)
        assert found == data
        assert blocks == 41
        retrieved = await cluster.nodes[3].blobs.ensure(result.cid)
        assert (retrieved.blocks, retrieved.fetched_blocks) == (41, 0)
        assert [pin.cid for pin in cluster.nodes[0].blobs.pins()] == [result.cid]


async def test_a_file_of_equal_chunks_is_fetched_once_and_streamed_in_full(tmp_path: Path) -> None:
    data = content(MIB) * 8
    async with running(tmp_path, 1) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(data))
        assert result.blocks == 2
        found, blocks = await download(cluster.nodes[0].blobs, result.cid)
        assert found == data
        assert blocks == 9


async def test_a_directory_is_listed_and_fetched_where_it_never_was(tmp_path: Path) -> None:
    files = {"model/weights.bin": content(3 * MIB), "model/README.md": b"# hello\n", "LICENSE": b"Apache-2.0\n"}
    async with running(tmp_path) as cluster:
        result = await cluster.nodes[1].blobs.put_tar(chunks(tar_of(files)))
        blobs = cluster.nodes[2].blobs
        stat = await blobs.stat(result.cid)
        assert (stat.kind, stat.local, stat.blocks) == ("directory", False, 2)
        content_of = cluster.nodes[2].content.entries
        licence, model = (await content_of(result.cid, 10)).entries
        assert (licence.name, licence.cid, licence.kind, licence.size) == (
            "LICENSE",
            Cid.of(files["LICENSE"]),
            "file",
            11,
        )
        assert (model.name, model.kind) == ("model", "directory")
        names = [entry.name for entry in (await content_of(model.cid, 10)).entries]
        assert names == ["README.md", "weights.bin"]
        retrieved = await blobs.ensure(result.cid)
        assert retrieved.fetched_blocks > 0
        assert blobs.local(Cid.of(files["model/README.md"])) == b"# hello\n"


async def test_two_downloads_of_one_root_share_one_retrieval(tmp_path: Path) -> None:
    data = distinct(24)
    async with running(tmp_path) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(data))
        blobs = cluster.nodes[3].blobs
        (first, _), (second, _) = await asyncio.gather(download(blobs, result.cid), download(blobs, result.cid))
        assert first == second == data
        metrics = cluster.nodes[3].metrics()
        assert (metrics["retrievals_total"], metrics["blocks_fetched_total"]) == (1.0, 25.0)


async def test_what_nobody_has_is_not_found_and_says_who_was_asked(tmp_path: Path) -> None:
    cid = Cid.of(b"nobody has this")
    async with running(tmp_path) as cluster:
        node = cluster.nodes[0]
        with pytest.raises(NotFound) as caught:
            await node.blobs.ensure(cid)
        assert str(cid) in str(caught.value)
        for peer in node.peers():
            assert peer.peer_id in str(caught.value)
        with pytest.raises(NotFound):
            await node.blobs.block(cid)
        with pytest.raises(NotFound):
            await download(node.blobs, cid)


async def test_a_retrieval_resumes_at_another_provider(tmp_path: Path) -> None:
    data = distinct(20)
    async with running(tmp_path) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(data))
        await cluster.nodes[1].blobs.pin(result.cid, name="copy")
        seen: list[int] = []
        leaving: list[asyncio.Task[None]] = []

        def progress(blocks: int, size: int) -> None:
            seen.append(blocks)
            if not leaving:
                leaving.append(asyncio.create_task(cluster.stop(0)))

        retrieved = await cluster.nodes[3].blobs.ensure(result.cid, progress=progress)
        await asyncio.gather(*leaving)
        assert retrieved.blocks == 21
        assert seen == sorted(seen)


async def test_a_block_that_claims_to_be_a_node_and_is_none_is_refused(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(b"\xff\xff plain bytes"))
        assert result.cid.codec == RAW
        liar = Cid(1, DAG_PB, result.cid.digest_code, result.cid.digest)
        with pytest.raises(Rejection):
            await cluster.nodes[0].blobs.ensure(liar)


async def test_pins_are_kept_over_a_restart_and_unpinned_once(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        result = await cluster.nodes[0].blobs.put_stream(chunks(b"keep me"))
        await cluster.nodes[0].blobs.pin(result.cid, name="mine", recursive=False)
        await cluster.stop(0)
        await cluster.start(0)
        blobs = cluster.nodes[0].blobs
        assert sorted((pin.kind, pin.name, pin.reason) for pin in blobs.pins()) == [
            ("direct", "mine", "user"),
            ("recursive", "", "publish"),
        ]
        await blobs.unpin(result.cid)
        assert blobs.pins() == ()
        with pytest.raises(NotFound):
            await blobs.unpin(result.cid)


async def test_an_unknown_profile_and_a_hostile_archive_are_refused_and_pin_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        blobs = cluster.nodes[0].blobs
        with pytest.raises(UsageError):
            await blobs.put_stream(chunks(b"x"), profile="no-such-profile")
        with pytest.raises(Rejection):
            await blobs.put_tar(chunks(tar_of({"../escape": b"x"})))
        assert blobs.pins() == ()


async def test_an_upload_that_breaks_off_fails_with_its_own_error(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(3 * MIB)
        raise Unreachable("the client went away")

    async with running(tmp_path, 1) as cluster:
        with pytest.raises(Unreachable, match="the client went away"):
            await cluster.nodes[0].blobs.put_stream(broken())
        assert cluster.nodes[0].blobs.pins() == ()
        assert cluster.nodes[0].metrics()["uploads_failed_total"] == 1.0


async def test_the_upload_limit_holds_at_its_bound(tmp_path: Path) -> None:
    cluster: Cluster
    async with running(tmp_path, 1) as cluster:
        publishing = cluster.nodes[0]._running.publishing
        publishing._upload_bytes = 1000
        assert (await cluster.nodes[0].blobs.put_stream(chunks(bytes(1000)))).size == 1000
        with pytest.raises(Rejection, match="at most 1000 bytes"):
            await cluster.nodes[0].blobs.put_stream(chunks(bytes(1001)))


async def test_an_identity_cid_streams_as_a_header_alone(tmp_path: Path) -> None:
    cid = Cid(1, RAW, IDENTITY, b"inline")
    async with running(tmp_path, 1) as cluster:
        assert await cluster.nodes[0].blobs.block(cid) == b"inline"
        found, _ = await download(cluster.nodes[0].blobs, cid)
        assert found == b"inline"
