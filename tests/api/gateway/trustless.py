"""Rows of the trustless gateway: raw blocks and CARs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mpisa.primitives.cid import Cid
from mpisa.primitives.links import links_of
from storage.reader import DagReader
from tests.api.gateway.table import CAR, IMMUTABLE, RAW, Case, Check, at, below, block, blocks_of, car_of, url, way

ONE = "gateway-raw-block.car"
TWO = "trustless_gateway_car/subdir-with-two-single-block-files.car"
MIXED = "trustless_gateway_car/subdir-with-mixed-block-files.car"
HAMT = "trustless_gateway_car/single-layer-hamt-with-multi-block-files.car"
DOCUMENT = "trustless_gateway_car/dir-with-dag-cbor-with-links.car"
TWICE = "trustless_gateway_car/dir-with-duplicate-files.car"
HOLED = "trustless_gateway_car/file-3k-and-3-blocks-missing-block.car"
MULTIBLOCK = "subdir/multiblock.txt"

ACCEPT_RAW = {"Accept": RAW}
ATTACHED = "attachment;.*"


def raw_cases(path: str, small: str) -> tuple[Case, ...]:
    """The same for a CID alone and for a path: `path` leads to the directory, `small` to ascii.txt."""
    text, directory = block(ONE, "dir/ascii.txt"), block(ONE, "dir")
    root = small.split("/")[2]
    return (
        Case("a block by ?format=raw", path, "format=raw", body=directory),
        Case("a block by the Accept header", path, ask=ACCEPT_RAW, body=directory),
        Case(
            "headers of a block",
            small,
            ask=ACCEPT_RAW,
            headers={
                "Content-Type": RAW,
                "Content-Length": str(len(text)),
                "Content-Disposition": ATTACHED,
                "X-Content-Type-Options": "nosniff",
            },
            body=text,
        ),
        Case(
            "the client's file name",
            small,
            "filename=foobar.bin",
            ask=ACCEPT_RAW,
            headers={"Content-Disposition": 'attachment; filename="foobar.bin"'},
        ),
        Case(
            "headers for caches",
            small,
            ask=ACCEPT_RAW,
            headers={
                "Etag": '".+"',
                "X-Ipfs-Path": small,
                "X-Ipfs-Roots": f"{root}.*",
                "Cache-Control": IMMUTABLE,
            },
        ),
        Case(
            "one range",
            path,
            ask=ACCEPT_RAW | {"Range": "bytes=6-16"},
            status=206,
            headers={"Content-Range": f"bytes 6-16/{len(directory)}", "Content-Type": RAW},
            body=directory[6:17],
        ),
        Case(
            "of several ranges the first",
            path,
            ask=ACCEPT_RAW | {"Range": "bytes=6-16,20-30"},
            status=206,
            headers={"Content-Range": f"bytes 6-16/{len(directory)}", "Content-Type": RAW},
            body=directory[6:17],
        ),
    )


RAW_CASES = raw_cases(url(at(ONE, "dir")), url(at(ONE, "dir/ascii.txt")))
PATH_RAW_CASES = raw_cases(url(at(ONE), "/dir"), url(at(ONE), "/dir/ascii.txt"))

CAR_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Accept-Ranges": "none",
    "Content-Type": "application/vnd.ipld.car; version=1; order=dfs; dups=y",
    "Content-Disposition": r'attachment; filename=".*\.car"',
    "Etag": '".+"',
}


def row(name: str, path: str, query: str, check: Check) -> tuple[Case, Case]:
    """The same asked by ?format= and by the Accept header."""
    by_query = Case(name, path, f"format=car&{query}", headers=CAR_HEADERS, check=check)
    return by_query, replace(by_query, name=f"{name} (Accept)", query=query, ask={"Accept": CAR})


def entity(name: str, asked: str, *blocks: Cid) -> tuple[Case, Case]:
    query = f"dag-scope=entity&entity-bytes={asked}"
    return row(f"{name} ({asked})", url(at(MIXED, MULTIBLOCK)), query, car_of(at(MIXED, MULTIBLOCK), *blocks))


def _shards() -> list[Cid]:
    """The root and all shards of the sharded directory: what isn't one of its files or below them."""
    store, root = blocks_of(HAMT)
    reader = DagReader(store.get)
    files = {entry.cid for entry in reader.entries(root)}
    found, pending = [], [root]
    while pending:
        found.append(pending.pop())
        linked = links_of(found[-1], reader.block(found[-1]))
        pending += [cid for cid in reversed(linked) if cid not in files]
    return found


CHUNKS = below(MIXED, MULTIBLOCK)[1:]
SUBDIR = (at(TWO), at(TWO, "subdir"))
ROOT, HOLED_ROOT = url(at(TWO)), at(HOLED)
SHARDS = _shards()

PATHS = (
    *row("through directories", f"{ROOT}/subdir/ascii.txt", "", car_of(*SUBDIR, at(TWO, "subdir/ascii.txt"))),
    *row(
        "through a sharded directory",
        f"{url(at(HAMT))}/685.txt",
        "",
        car_of(*way(HAMT, "685.txt"), *below(HAMT, "685.txt")),
    ),
    *row(
        "through a document",
        f"{url(at(DOCUMENT, 'document'))}/files/single",
        "",
        car_of(at(DOCUMENT, "document"), at(DOCUMENT, "document/files/single")),
    ),
    Case("no such name", f"{ROOT}/subdir/i-do-not-exist", "format=car", status=404),
    Case("no such name (Accept)", f"{ROOT}/subdir/i-do-not-exist", ask={"Accept": CAR}, status=404),
)
SCOPES = (
    *row("block: a directory", f"{ROOT}/subdir", "dag-scope=block", car_of(*SUBDIR)),
    *row(
        "block: a file",
        f"{ROOT}/subdir/ascii.txt",
        "dag-scope=block",
        car_of(*SUBDIR, at(TWO, "subdir/ascii.txt")),
    ),
    *row(
        "block: in a sharded directory",
        f"{url(at(HAMT))}/1.txt",
        "dag-scope=block",
        car_of(*way(HAMT, "1.txt"), at(HAMT, "1.txt")),
    ),
    *row("entity: a directory", ROOT, "dag-scope=entity", car_of(at(TWO))),
    *row("entity: a sharded directory", url(at(HAMT)), "dag-scope=entity", car_of(*SHARDS)),
    *row(
        "entity: a file",
        f"{url(at(MIXED))}/subdir/ascii.txt",
        "dag-scope=entity",
        car_of(at(MIXED), at(MIXED, "subdir"), at(MIXED, "subdir/ascii.txt")),
    ),
    *row(
        "entity: a file of several blocks",
        f"{url(at(MIXED))}/{MULTIBLOCK}",
        "dag-scope=entity",
        car_of(at(MIXED), at(MIXED, "subdir"), at(MIXED, MULTIBLOCK), *CHUNKS),
    ),
    *row(
        "entity: a document",
        f"{url(at(DOCUMENT))}/document",
        "dag-scope=entity",
        car_of(at(DOCUMENT), at(DOCUMENT, "document")),
    ),
    *row(
        "all: a directory",
        f"{url(at(MIXED))}/subdir",
        "dag-scope=all",
        car_of(at(MIXED), *below(MIXED, "subdir")),
    ),
    *row(
        "all: a file of several blocks",
        f"{url(at(MIXED))}/{MULTIBLOCK}",
        "dag-scope=all",
        car_of(at(MIXED), at(MIXED, "subdir"), at(MIXED, MULTIBLOCK), *CHUNKS),
    ),
)
HOLE = ("QmPKt7ptM2ZYSGPUc8PmPT2VBkLDK3iqpG9TBJY7PCE9rF", "QmWXY482zQdwecnfBsj78poUUuPXvyw2JAFAEMw4tzTavV")
RANGES = (
    *row(
        "a block behind the range is missing",
        url(HOLED_ROOT),
        "dag-scope=entity&entity-bytes=0:1000",
        car_of(HOLED_ROOT, Cid.parse(HOLE[0])),
    ),
    *row(
        "a block before the range is missing",
        url(HOLED_ROOT),
        "dag-scope=entity&entity-bytes=2200:*",
        car_of(HOLED_ROOT, Cid.parse(HOLE[1])),
    ),
    *row(
        "all of a file",
        f"{url(at(MIXED))}/{MULTIBLOCK}",
        "dag-scope=entity&entity-bytes=0:*",
        car_of(at(MIXED), at(MIXED, "subdir"), at(MIXED, MULTIBLOCK), *CHUNKS),
    ),
    *row("a directory", url(at(HAMT)), "dag-scope=entity&entity-bytes=0:*", car_of(*SHARDS)),
    *entity("from the middle", "512:*", *CHUNKS[2:]),
    *entity("within", "512:1023", *CHUNKS[2:4]),
    *entity("to a place before the end", "512:-256", *CHUNKS[2:4]),
    *entity("the end", "-5:*", *CHUNKS[3:]),
    *entity("more than there is", "-9999:*", *CHUNKS),
    *entity("from before the beginning", "-9999:-3", *CHUNKS[:4]),
    *entity("the first byte", "0:0", CHUNKS[0]),
)
DUPLICATES = below(TWICE)
ONCE = list(dict.fromkeys(DUPLICATES))


def order(name: str, query: str, accept: str, dups: str, check: Check, path: str = url(at(TWICE))) -> Case:
    headers: Mapping[str, str] = {"Content-Type": f"{CAR}; version=1; order=dfs; dups={dups}"}
    return Case(name, path, query, {"Accept": f"{CAR}; {accept}"}, headers=headers, check=check)


ORDERS = (
    order("depth first with repeats", "", "version=1; order=dfs; dups=y", "y", car_of(*DUPLICATES)),
    order("depth first without repeats", "", "version=1; order=dfs; dups=n", "n", car_of(*ONCE)),
    order("no order is asked for", "", "version=1; order=unk", "y", car_of(*DUPLICATES)),
    order("an identity CID", "", "dups=y", "y", car_of(), url("bafkqaf3imvwgy3zaneqgc3janfxgy2lomvscay3jmqfa")),
    order("?format=car with Accept's parameters", "format=car", "order=dfs; dups=n", "n", car_of(*ONCE)),
    order("?car-order wins", "format=car&car-order=dfs", "order=unk", "y", car_of(*DUPLICATES)),
    order("?car-dups wins", "format=car&car-dups=y", "dups=n", "y", car_of(*DUPLICATES)),
    Case(
        "?format=car wins over Accept",
        url(at(ONE, "dir")),
        "format=car",
        ACCEPT_RAW,
        headers={"Content-Type": f"{CAR};.*"},
    ),
    Case(
        "?format=raw wins over Accept",
        url(at(ONE, "dir")),
        "format=raw",
        {"Accept": CAR},
        headers={"Content-Type": RAW},
    ),
)
CAR_CASES = (*PATHS, *SCOPES, *RANGES, *ORDERS)
