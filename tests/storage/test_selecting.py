"""Partial DAGs: the cases of the trustless gateway's published table, and what a receiver can prove of each."""

import random
from collections.abc import Sequence

import pytest

from mpisa.primitives.car_stream import FileBytes, FileStarted, TreeEnded
from mpisa.primitives.cid import DAG_CBOR, DAG_PB, IDENTITY, RAW, Cid
from mpisa.primitives.errors import IntegrityError, NotFound, Rejection, RejectionReason
from mpisa.primitives.ipld import Link, encode_dag_cbor
from mpisa.primitives.range_stream import FileSkipped, RangeVerifier
from mpisa.primitives.selection import Scope, Selection, parse_entity_bytes, parse_selection
from storage.blockstore import MemoryBlockStore
from storage.car import write_car
from storage.paths import resolve
from storage.reader import DagReader
from storage.selecting import select
from tests.storage.gateway_cars import load

TWO = "trustless_gateway_car/subdir-with-two-single-block-files.car"
MIXED = "trustless_gateway_car/subdir-with-mixed-block-files.car"
HAMT = "trustless_gateway_car/single-layer-hamt-with-multi-block-files.car"
CBOR = "trustless_gateway_car/dir-with-dag-cbor-with-links.car"
TWICE = "trustless_gateway_car/dir-with-duplicate-files.car"
HOLED = "trustless_gateway_car/file-3k-and-3-blocks-missing-block.car"
MULTIBLOCK = "subdir/multiblock.txt"


def selected(name: str, path: str, query: dict[str, str], *, below: str = "") -> list[Cid]:
    store, root = load(name)
    reader = DagReader(store.get)
    start = resolve(reader, root, _parts(below)).cid
    return [cid for cid, _ in select(reader, resolve(reader, start, _parts(path)), parse_selection(query, {}))]


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def entities(name: str, *paths: str) -> list[Cid]:
    """The CIDs at these paths."""
    store, root = load(name)
    return [resolve(DagReader(store.get), root, _parts(path)).cid for path in paths]


def chunks(name: str, path: str) -> list[Cid]:
    """The parts of a file of two levels."""
    store, root = load(name)
    reader = DagReader(store.get)
    return [cid for cid, _ in reader.walk(resolve(reader, root, _parts(path)).cid)][1:]


@pytest.mark.parametrize("query", [{}, {"dag-scope": "all"}, {"dag-scope": "block"}, {"dag-scope": "entity"}])
def test_a_path_through_directories(query: dict[str, str]) -> None:
    expected = entities(TWO, "", "subdir", "subdir/ascii.txt")
    assert selected(TWO, "subdir/ascii.txt", query) == expected


def test_the_block_scope() -> None:
    assert selected(TWO, "subdir", {"dag-scope": "block"}) == entities(TWO, "", "subdir")
    assert selected(MIXED, MULTIBLOCK, {"dag-scope": "block"}) == entities(MIXED, "", "subdir", MULTIBLOCK)


def test_the_entity_scope() -> None:
    assert selected(TWO, "", {"dag-scope": "entity"}) == entities(TWO, "")
    expected = entities(MIXED, "", "subdir", MULTIBLOCK) + chunks(MIXED, MULTIBLOCK)
    assert len(expected) == 8
    assert selected(MIXED, MULTIBLOCK, {"dag-scope": "entity"}) == expected
    assert selected(CBOR, "document", {"dag-scope": "entity"}) == entities(CBOR, "", "document")


def test_everything_below_a_directory() -> None:
    store, root = load(MIXED)
    reader = DagReader(store.get)
    below = [cid for cid, _ in reader.walk(resolve(reader, root, ["subdir"]).cid)]
    assert selected(MIXED, "subdir", {"dag-scope": "all"}) == [root, *below]
    assert len(below) == 9


def test_a_sharded_directory() -> None:
    store, root = load(HAMT)
    reader = DagReader(store.get)
    names = sorted(entry.name for entry in reader.entries(root))
    assert len(names) == 1000
    shards = selected(HAMT, "", {"dag-scope": "entity"})
    assert shards == selected(HAMT, "", {"dag-scope": "entity", "entity-bytes": "0:*"})
    assert shards[0] == root
    assert len(shards) == 237
    found = resolve(reader, root, ["685.txt"])
    assert set(found.path_blocks) <= set(shards)
    assert found.path_blocks[0] == root
    file = [cid for cid, _ in reader.walk(found.cid)]
    assert selected(HAMT, "685.txt", {}) == [*found.path_blocks, *file]
    one = resolve(reader, root, ["1.txt"])
    assert selected(HAMT, "1.txt", {"dag-scope": "block"}) == [*one.path_blocks, one.cid]


def test_a_path_through_a_document() -> None:
    store, root = load(CBOR)
    reader = DagReader(store.get)
    document = resolve(reader, root, ["document"]).cid
    assert document.codec == DAG_CBOR
    single = resolve(reader, document, ["files", "single"])
    assert single.roots == (document, single.cid)
    assert selected(CBOR, "files/single", {}, below="document") == [document, single.cid]
    assert selected(CBOR, "document", {})[:2] == [root, document]
    assert len(set(selected(CBOR, "document", {}))) > 2


def test_duplicates_are_sent_or_left_out() -> None:
    twice = selected(TWICE, "", {"car-dups": "y"})
    once = selected(TWICE, "", {"car-dups": "n"})
    assert once == list(dict.fromkeys(twice))
    assert len(twice) == len(once) + 1


def test_an_identity_cid_has_no_blocks() -> None:
    cid = Cid(1, RAW, IDENTITY, b"hello identity")
    reader = DagReader(MemoryBlockStore().get)
    assert list(select(reader, resolve(reader, cid, []), Selection())) == []


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("0:*", 0, 5), ("512:*", 2, 5), ("512:1023", 2, 4), ("512:-256", 2, 4), ("-5:*", 3, 5), ("-9999:*", 0, 5),
        ("-9999:-3", 0, 4), ("0:0", 0, 1), ("1026:*", 0, 0), ("5000:6000", 0, 0), ("1024:1025", 4, 5),
    ],
)  # fmt: skip
def test_a_range_has_the_blocks_that_hold_it(asked: str, first: int, last: int) -> None:
    expected = entities(MIXED, MULTIBLOCK) + chunks(MIXED, MULTIBLOCK)[first:last]
    assert selected(MIXED, "", {"entity-bytes": asked}, below=MULTIBLOCK) == expected


@pytest.mark.parametrize(
    ("asked", "chunk"),
    [
        ("0:1000", "QmPKt7ptM2ZYSGPUc8PmPT2VBkLDK3iqpG9TBJY7PCE9rF"),
        ("2200:*", "QmWXY482zQdwecnfBsj78poUUuPXvyw2JAFAEMw4tzTavV"),
    ],
)
def test_blocks_outside_of_the_range_may_be_missing(asked: str, chunk: str) -> None:
    _, root = load(HOLED)
    assert selected(HOLED, "", {"entity-bytes": asked}) == [root, Cid.parse(chunk)]
    with pytest.raises(NotFound):
        selected(HOLED, "", {"dag-scope": "entity"})


def test_a_small_dag_that_repeats_itself_ends_at_the_bound() -> None:
    store = MemoryBlockStore()
    cid = Cid.of(b"leaf")
    store.put([(cid, b"leaf")])
    for _ in range(20):
        block = encode_dag_cbor([Link(cid)] * 100)
        cid = Cid.of(block, codec=DAG_CBOR)
        store.put([(cid, block)])
    reader = DagReader(store.get)
    with pytest.raises(Rejection) as caught:
        for _ in select(reader, resolve(reader, cid, []), Selection(), max_bytes=1_000_000):
            pass
    assert caught.value.reason is RejectionReason.TOO_LARGE
    assert len(list(select(reader, resolve(reader, cid, []), Selection(duplicates=False)))) == 21


def test_what_will_be_read_is_told_ahead_and_never_more_than_64() -> None:
    store, root = load(HAMT)
    told: list[Cid] = []

    def expect(cids: Sequence[Cid]) -> None:
        assert 0 < len(cids) <= 64
        told.extend(cids)

    reader = DagReader(store.get, expect)
    read = [cid for cid, _ in reader.walk(root)]
    assert set(read) == set(told)
    assert len(told) <= len(read)


def stream(name: str, path: str, asked: str, *, below: str = "") -> tuple[Cid, bytes]:
    """What an honest node sends, and for which root."""
    store, root = load(name)
    reader = DagReader(store.get)
    start = resolve(reader, root, _parts(below)).cid
    selection = Selection(Scope.ENTITY, parse_entity_bytes(asked))
    return start, b"".join(write_car([start], select(reader, resolve(reader, start, _parts(path)), selection)))


def proven(root: Cid, path: str, asked: str, data: bytes, step: int = 1 << 20) -> list[object]:
    verifier = RangeVerifier(root, tuple(_parts(path)), parse_entity_bytes(asked))
    events: list[object] = []
    for start in range(0, len(data), step):
        events += verifier.feed(data[start : start + step])
    return events + verifier.finish()


@pytest.mark.parametrize(
    "asked", ["0:*", "0:0", "512:1023", "300:-300", "-5:*", "1025:1025", "1026:*", "99999:*", "-9999:-3"]
)
@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_an_honest_range_is_proven(asked: str, step: int) -> None:
    store, top = load(MIXED)
    reader = DagReader(store.get)
    whole = b"".join(reader.read_file(resolve(reader, top, _parts(MULTIBLOCK)).cid))
    root, data = stream(MIXED, MULTIBLOCK, asked)
    events = proven(root, MULTIBLOCK, asked, data, step)
    start, end = parse_entity_bytes(asked).clamp(len(whole))
    assert b"".join(event.data for event in events if isinstance(event, FileBytes)) == whole[start:end]
    assert sum(event.count for event in events if isinstance(event, FileSkipped)) == len(whole) - (end - start)
    assert events[0] == FileStarted((), len(whole))
    assert isinstance(events[-1], TreeEnded)
    assert events[-1].size == end - start


@pytest.mark.parametrize("name", ["685.txt", "1.txt", "999.txt"])
def test_a_path_through_shards_is_proven(name: str) -> None:
    store, root = load(HAMT)
    reader = DagReader(store.get)
    whole = b"".join(reader.read_file(resolve(reader, root, [name]).cid))
    events = proven(root, name, "0:*", stream(HAMT, name, "0:*")[1])
    assert b"".join(event.data for event in events if isinstance(event, FileBytes)) == whole


def test_a_directory_is_proven_by_its_own_blocks() -> None:
    root, data = stream(HAMT, "", "0:*")
    events = proven(root, "", "0:*", data)
    assert isinstance(events[-1], TreeEnded)
    assert events[-1].blocks == 237


@pytest.mark.parametrize(("name", "path"), [(MIXED, "subdir/nope"), (HAMT, "nope"), (MIXED, "subdir/ascii.txt/x")])
def test_that_a_name_is_not_there_is_proven_too(name: str, path: str) -> None:
    store, root = load(name)
    read: list[tuple[Cid, bytes]] = []

    def get(cid: Cid) -> bytes:
        read.append((cid, store.get(cid)))
        return read[-1][1]

    with pytest.raises(NotFound):
        resolve(DagReader(get), root, _parts(path))
    with pytest.raises(NotFound):
        proven(root, path, "0:*", b"".join(write_car([root], read)))


def test_every_truncation_is_noticed() -> None:
    root, data = stream(MIXED, MULTIBLOCK, "300:900")
    for cut in range(len(data)):
        with pytest.raises(IntegrityError):
            proven(root, MULTIBLOCK, "300:900", data[:cut])


def test_every_flipped_bit_is_noticed() -> None:
    root, data = stream(MIXED, MULTIBLOCK, "300:600")
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            try:
                events = proven(root, MULTIBLOCK, "300:600", bytes(damaged))
            except IntegrityError:
                continue
            assert events == proven(root, MULTIBLOCK, "300:600", data), f"byte {position} bit {bit}"


def test_streams_of_other_questions_are_refused() -> None:
    root, data = stream(MIXED, MULTIBLOCK, "300:600")
    for path, asked in [
        (MULTIBLOCK, "0:600"), (MULTIBLOCK, "300:*"), (MULTIBLOCK, "0:0"), (MULTIBLOCK, "2000:*"),
        ("subdir/ascii.txt", "0:0"),
    ]:  # fmt: skip
        with pytest.raises(IntegrityError):
            proven(root, path, asked, data)
    with pytest.raises(IntegrityError):
        proven(Cid.of(b"other", codec=DAG_PB), MULTIBLOCK, "300:600", data)
    _, more = stream(MIXED, MULTIBLOCK, "300:*")
    with pytest.raises(IntegrityError, match="goes on behind the end"):
        proven(root, MULTIBLOCK, "300:600", more)


def test_blocks_in_another_order_are_refused() -> None:
    store, root = load(MIXED)
    reader = DagReader(store.get)
    blocks = list(select(reader, resolve(reader, root, _parts(MULTIBLOCK)), Selection(Scope.ENTITY)))
    honest = list(blocks)
    generator = random.Random(5)
    for _ in range(50):
        generator.shuffle(blocks)
        if blocks != honest:
            with pytest.raises(IntegrityError):
                proven(root, MULTIBLOCK, "0:*", b"".join(write_car([root], blocks)))


def test_a_path_into_a_document_is_no_file() -> None:
    document = encode_dag_cbor({"a": {"b": 1}})
    cid = Cid.of(document, codec=DAG_CBOR)
    with pytest.raises(IntegrityError, match="lies within the document"):
        proven(cid, "a/b", "0:*", b"".join(write_car([cid], [(cid, document)])))
