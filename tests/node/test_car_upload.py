"""CARs into a real node: blocks count whenever they came, a root is pinned when all of its DAG is here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from mpisa.node.car_upload import MAX_ROOTS
from mpisa.primitives.car_stream import encode_car_header, encode_car_section
from mpisa.primitives.cid import DAG_CBOR, IDENTITY, RAW, Cid
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason
from mpisa.primitives.ipld import Link, encode_dag_cbor
from storage.blockstore import MemoryBlockStore
from storage.importer import import_path
from storage.pins import PinReason
from tests.node.cluster import running

Block = tuple[Cid, bytes]


async def stream(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


def car(roots: Sequence[Cid], blocks: Sequence[Block]) -> AsyncIterator[bytes]:
    body = b"".join(encode_car_section(cid, len(data)) + data for cid, data in blocks)
    return stream(encode_car_header(tuple(roots)), body)


def tree(folder: Path) -> tuple[Cid, list[Block]]:
    """A directory's root and all of its blocks."""
    (folder / "in").mkdir(parents=True)
    for number in range(20):
        (folder / "in" / f"{number}").write_bytes(b"%d" % number * 1000)
    store = MemoryBlockStore()
    root = import_path(store, folder).cid
    return root, [(cid, store.get(cid)) for cid in store.cids()]


async def test_a_root_is_pinned_when_all_of_it_has_come(tmp_path: Path) -> None:
    root, blocks = tree(tmp_path / "tree")
    cids = [cid for cid, _ in blocks]
    async with running(tmp_path / "nodes", 1) as cluster:
        blobs = cluster.nodes[0].blobs
        assert await blobs.missing(cids) == tuple(range(len(cids)))
        first = await blobs.put_car(car([root], blocks[:7]))
        assert (first.roots, first.blocks, first.size) == ((root,), 7, sum(len(data) for _, data in blocks[:7]))
        assert first.pinned == ()
        assert blobs.pins() == ()
        assert await blobs.missing(cids) == tuple(range(7, len(cids)))
        await blobs.put_car(car([], blocks[7:]))
        assert (await blobs.put_car(car([root], []))).pinned == (root,)
        (pin,) = blobs.pins()
        assert (pin.cid, pin.kind, pin.reason) == (root, "recursive", "publish")
        assert await blobs.missing(cids) == ()


async def test_links_of_dag_cbor_count_too(tmp_path: Path) -> None:
    leaf = (Cid.of(b"leaf"), b"leaf")
    body = encode_dag_cbor({"leaf": Link(leaf[0])})
    root = Cid.of(body, codec=DAG_CBOR)
    async with running(tmp_path, 1) as cluster:
        blobs = cluster.nodes[0].blobs
        assert (await blobs.put_car(car([root], [(root, body)]))).pinned == ()
        assert (await blobs.put_car(car([root], [leaf]))).pinned == (root,)


async def test_a_car_that_lies_or_ends_early_is_refused(tmp_path: Path) -> None:
    root, blocks = tree(tmp_path / "tree")
    async with running(tmp_path / "nodes", 1) as cluster:
        blobs = cluster.nodes[0].blobs
        wrong = [*blocks[:3], (blocks[3][0], b"not these bytes")]
        with pytest.raises(Rejection, match="does not match its CID") as lie:
            await blobs.put_car(car([root], wrong))
        assert lie.value.reason is RejectionReason.MALFORMED
        with pytest.raises(Rejection, match="ends before its header"):
            await blobs.put_car(stream(b"\x3a"))
        cut = b"".join([part async for part in car([root], blocks[:2])])[:-1]
        with pytest.raises(Rejection, match="ends within a block"):
            await blobs.put_car(stream(cut))
        with pytest.raises(Rejection, match=f"expected at most {MAX_ROOTS}"):
            await blobs.put_car(car([root] * (MAX_ROOTS + 1), []))
        assert blobs.pins() == ()


async def test_all_local_blocks_are_hashed_again(tmp_path: Path) -> None:
    root, blocks = tree(tmp_path / "tree")
    total = sum(len(data) for _, data in blocks)
    async with running(tmp_path / "nodes", 1) as cluster:
        blobs = cluster.nodes[0].blobs
        gone = next(block for block in blocks if block[0].codec == RAW)
        await blobs.put_car(car([root], [block for block in blocks if block is not gone]))
        found = await blobs.check(root)
        assert (found.blocks, found.missing, found.damaged, found.missing_cids) == (len(blocks) - 1, 1, 0, (gone[0],))
        await blobs.put_car(car([root], [gone]))
        found = await blobs.check(root)
        assert (found.blocks, found.size, found.missing, found.damaged) == (len(blocks), total, 0, 0)
        victim = next(data for cid, data in blocks if cid.codec == RAW and data != gone[1])
        (pack,) = [path for path in cluster.home(0).rglob("*.pack") if victim in path.read_bytes()]
        raw = pack.read_bytes()
        at = raw.index(victim)
        pack.write_bytes(raw[:at] + b"\xff" + raw[at + 1 :])
        found = await blobs.check(root)
        assert (found.damaged, found.damaged_cids, found.missing) == (1, (Cid.of(victim),), 0)
        inline = Cid(1, RAW, IDENTITY, b"within")
        assert (await blobs.check(inline)).blocks == 0


async def test_unpin_leaves_custody_alone_unless_it_is_named(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as cluster:
        node = cluster.nodes[0]
        root = Cid.of(b"a block")
        await node.blobs.put_car(car([root], [(root, b"a block")]))
        await node.blobs.pin(root)
        node._running.blobs._pins.pin(root, reason=PinReason.CUSTODY)
        assert sorted(pin.reason for pin in node.blobs.pins()) == ["custody", "publish", "user"]
        await node.blobs.unpin(root, reason="user")
        assert sorted(pin.reason for pin in node.blobs.pins()) == ["custody", "publish"]
        await node.blobs.unpin(root)
        assert [pin.reason for pin in node.blobs.pins()] == ["custody"]
        with pytest.raises(NotFound, match="pinned for custody only"):
            await node.blobs.unpin(root)
        await node.blobs.unpin(root, reason="custody")
        with pytest.raises(NotFound, match="is not pinned"):
            await node.blobs.unpin(root)
