"""What a gateway must do with hostile requests and hostile content, and where this one draws its own lines."""

from __future__ import annotations

import contextlib
import html
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiohttp
import msgspec
import pytest
from yarl import URL

from mpisa.config import Gateway
from mpisa.primitives.cid import DAG_CBOR, DAG_PB, RAW, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.ipld import Link, encode_dag_cbor
from mpisa.primitives.links import links_of
from mpisa.primitives.profiles import DEFAULT_PROFILE
from mpisa.primitives.unixfs import FileType, UnixFsNode, encode_unixfs
from mpisa.primitives.unixfs_directory import build_directory
from mpisa.sdk.models import Problem
from storage.blockstore import MemoryBlockStore
from storage.session import ImportSession
from tests.api.fake_node import FakeNode

SANDBOX = "sandbox; frame-ancestors 'none'"
BLOCK = 1 << 20


def store_files(store: MemoryBlockStore, files: dict[str, bytes]) -> Cid:
    """A directory of files, whatever their names."""
    with ImportSession(store, DEFAULT_PROFILE, None) as session:
        nodes = {name: session.add_file(io.BytesIO(data)) for name, data in files.items()}
        return session.result(build_directory(nodes, DEFAULT_PROFILE, session.sink)).cid


def store_file(store: MemoryBlockStore, data: bytes) -> Cid:
    with ImportSession(store, DEFAULT_PROFILE, None) as session:
        return session.result(session.add_file(io.BytesIO(data))).cid


def store_block(store: MemoryBlockStore, block: bytes, codec: int) -> Cid:
    cid = Cid.of(block, codec=codec)
    store.put([(cid, block)])
    return cid


def forget(node: FakeNode, cid: Cid) -> None:
    """From here on the node lacks the block."""
    node.blobs.store._blocks.pop(cid.multihash)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    content_type: str
    body: bytes

    @property
    def problem(self) -> Problem:
        return msgspec.json.decode(self.body, type=Problem)


async def ask(http: aiohttp.ClientSession, path: str, *, method: str = "GET", **headers: str) -> Answer:
    """One request, its path as it is written; headers' names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with http.request(method, URL(path, encoded=True), headers=named, allow_redirects=False) as answer:
        return Answer(answer.status, answer.headers, answer.content_type, await answer.read())


SOME = str(Cid.of(b"model"))


@pytest.mark.parametrize(
    ("path", "status", "detail"),
    [
        ("/ipfs/bafy", 400, None),
        ("/ipfs/zzz/a", 400, None),
        (f"/ipfs/{SOME}/%2e%2e/etc", 400, "a path has no parts named . or .."),
        (f"/ipfs/{SOME}/%2E/etc", 400, "a path has no parts named . or .."),
        (f"/ipfs/{SOME}/%ff", 400, "path: '%ff' is not UTF-8"),
        (f"/ipfs/{SOME}" + "/a" * 257, 400, "a path of more than 256 parts"),
        ("/ipfs/" + str(Cid(1, 0x55, 0x13, bytes(64))), 422, None),
        (f"/ipfs/{SOME}?format=zip", 400, None),
        (f"/ipfs/{SOME}?format=ipns-record", 400, "records are those of names: /ipns/NAME?format=ipns-record"),
        (f"/ipfs/{SOME}?format=car&dag-scope=most", 400, None),
        (f"/ipfs/{SOME}?format=car&entity-bytes=9:1", 400, "entity-bytes '9:1' ends before it begins"),
        ("/ipns/docs.example/wiki/", 400, "'docs.example' is a domain name: DNSLink isn't served here"),
        (f"/ipns/{SOME}", 400, None),
    ],
)  # fmt: skip
async def test_requests_that_are_refused(
    http: aiohttp.ClientSession, path: str, status: int, detail: str | None
) -> None:
    answer = await ask(http, path)
    found = answer.problem
    assert answer.status == found.status == status
    assert detail in (None, found.detail)
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


MANY = "bytes=" + "0-1," * 40 + "0-1"


@pytest.mark.parametrize(
    "asked", ["bytes", "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "items=0-1", "bytes=0-1,x", MANY]
)
async def test_ranges_that_make_no_sense_are_passed_over(
    node: FakeNode, http: aiohttp.ClientSession, asked: str
) -> None:
    cid = store_file(node.blobs.store, b"0123456789")
    answer = await ask(http, f"/ipfs/{cid}", Range=asked)
    assert (answer.status, answer.body) == (200, b"0123456789")


@pytest.mark.parametrize("query", ["", "?format=raw"])
@pytest.mark.parametrize("asked", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999-"])
async def test_ranges_outside_are_refused(node: FakeNode, http: aiohttp.ClientSession, asked: str, query: str) -> None:
    cid = store_file(node.blobs.store, b"0123456789")
    answer = await ask(http, f"/ipfs/{cid}{query}", Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */10")
    assert answer.problem.detail == f"range {asked!r} lies outside of 10 bytes"


async def test_the_first_range_that_can_be_served_is(node: FakeNode, http: aiohttp.ClientSession) -> None:
    cid = store_file(node.blobs.store, b"0123456789")
    answer = await ask(http, f"/ipfs/{cid}", Range="bytes=20-30, 8-40")
    assert (answer.status, answer.headers["Content-Range"], answer.body) == (206, "bytes 8-9/10", b"89")


async def test_a_range_of_another_representation_is_not_sent(node: FakeNode, http: aiohttp.ClientSession) -> None:
    cid = store_file(node.blobs.store, b"0123456789")
    for tag, status in ((f'"{cid}"', 206), (f'W/"{cid}"', 200), ('"another"', 200)):
        answer = await ask(http, f"/ipfs/{cid}", Range="bytes=0-0", If_Range=tag)
        assert answer.status == status


async def test_a_range_across_blocks(node: FakeNode, http: aiohttp.ClientSession) -> None:
    data = b"".join(number.to_bytes(4, "big") for number in range(BLOCK))
    cid = store_file(node.blobs.store, data)
    answer = await ask(http, f"/ipfs/{cid}", Range=f"bytes={BLOCK - 3}-{2 * BLOCK + 2}")
    assert (answer.status, answer.headers["Content-Length"]) == (206, str(BLOCK + 6))
    assert answer.body == data[BLOCK - 3 : 2 * BLOCK + 3]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a%0d%0aSet-Cookie:1", "attachment; filename=\"a__Set-Cookie:1\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A1"),
        ("a%22;%20b=%5C%22", "attachment; filename=\"a_; b=__\"; filename*=UTF-8''a%22%3B%20b%3D%5C%22"),
        ("%ED%A0%80", None),
    ],
)  # fmt: skip
async def test_a_file_name_ends_no_header(
    node: FakeNode, http: aiohttp.ClientSession, name: str, shown: str | None
) -> None:
    cid = store_file(node.blobs.store, b"x")
    answer = await ask(http, f"/ipfs/{cid}?format=raw&filename={name}")
    assert answer.status == 200
    assert "Set-Cookie" not in answer.headers
    assert shown in (None, answer.headers["Content-Disposition"])
    assert (await ask(http, f"/ipfs/{cid}?format=raw&filename={'n' * 256}")).status == 400


async def test_names_are_escaped(node: FakeNode, http: aiohttp.ClientSession) -> None:
    names = ["<script>alert(1)", "<img src=x onerror=alert(1)>", "a\"b'c&d", "100%", "x?y#z", "é"]
    inner = store_files(node.blobs.store, dict.fromkeys(names, b"x"))
    answer = await ask(http, f"/ipfs/{inner}/")
    page = answer.body.decode()
    assert "<script" not in page
    assert "<img" not in page
    links = re.findall(r'<td><a href="([^"]*)">([^<]*)</a></td>', page)
    assert sorted(html.unescape(text) for _, text in links) == sorted(names)
    for target, _ in links:
        assert (await ask(http, html.unescape(target))).status == 200
    missing = await ask(http, f"/ipfs/{inner}/%3Cscript%3E")
    assert (missing.status, missing.content_type) == (404, "application/problem+json")


async def test_what_strangers_wrote_has_no_origin(node: FakeNode, http: aiohttp.ClientSession) -> None:
    store = node.blobs.store
    page = b"<!doctype html><script>fetch('/v1/node')</script>"
    root = store_files(store, {"index.html": page, "a.svg": b"<svg/>", "b": b"{}", "c.js": b"1"})
    document = store_block(store, encode_dag_cbor({"link": Link(root)}), DAG_CBOR)
    with ImportSession(store, DEFAULT_PROFILE, None) as session:
        symlink = session.result(session.add_symlink("<script>alert(1)</script>")).cid
    paths = [f"/ipfs/{symlink}", *(f"/ipfs/{root}/{name}" for name in ("", "index.html", "a.svg", "b", "c.js"))]
    paths += [f"/ipfs/{root}?format={form}" for form in ("raw", "car", "tar")] + [f"/ipfs/{document}"]
    for path in paths:
        for method in ("GET", "HEAD"):
            answer = await ask(http, path, method=method)
            assert answer.status == 200, path
            assert answer.headers["Content-Security-Policy"] == SANDBOX, path
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
    listing = await ask(http, f"/ipfs/{document}", Accept="text/html")
    assert listing.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert b"<script" not in listing.body
    refused = await ask(http, f"/ipfs/{root}/", Origin="http://elsewhere.example")
    assert refused.status == 403


@pytest.mark.parametrize("count", [2_500, 6_500])
async def test_a_large_directory_comes_in_pages(node: FakeNode, http: aiohttp.ClientSession, count: int) -> None:
    """Plain and sharded; the entries' own blocks aren't read."""
    names = [f"{number:05} &.txt" for number in range(count)]
    root = store_files(node.blobs.store, dict.fromkeys(names, b"the same"))
    forget(node, Cid.of(b"the same"))
    assert (await node.content.stat(root)).sharded is (count > 5_000)
    target, seen, pages = f"/ipfs/{root}/", [], 0
    while target:
        answer = await ask(http, target)
        page = answer.body.decode()
        assert (answer.status, len(page) < 1 << 20) == (200, True)
        seen += [html.unescape(name) for name in re.findall(r'<td><a href="[^"]*">([^<]*)</a></td>', page)]
        pages += 1
        more = re.search(r'<a href="([^"]*)">More</a>', page)
        target = html.unescape(more[1]) if more else ""
    assert sorted(seen) == names
    assert pages == -(-count // 1_000)


async def test_a_page_behind_an_unknown_name_is_404(node: FakeNode, http: aiohttp.ClientSession) -> None:
    root = store_files(node.blobs.store, {"a": b"x"})
    assert (await ask(http, f"/ipfs/{root}/?after=b")).status == 404


async def test_head_reads_no_more_than_the_beginning(node: FakeNode, http: aiohttp.ClientSession) -> None:
    store = node.blobs.store
    cid = store_file(store, bytes(BLOCK) + b"1" * BLOCK + b"2" * BLOCK)
    for block in (b"1" * BLOCK, b"2" * BLOCK):
        forget(node, Cid.of(block))
    answer = await ask(http, f"/ipfs/{cid}", method="HEAD")
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(3 * BLOCK))
    assert answer.content_type == "application/octet-stream"
    for form in ("car", "tar"):
        answer = await ask(http, f"/ipfs/{cid}?format={form}", method="HEAD")
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("form", ["", "?format=car", "?format=tar"])
async def test_what_cannot_be_finished_is_cut_off(node: FakeNode, http: aiohttp.ClientSession, form: str) -> None:
    cid = store_file(node.blobs.store, b"0" * BLOCK + b"1" * BLOCK + b"2" * BLOCK)
    forget(node, Cid.of(b"2" * BLOCK))
    async with http.get(f"/ipfs/{cid}{form}") as answer:
        assert answer.status == 200
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientOSError)):
            await answer.read()


@pytest.mark.parametrize("form", ["", "?format=raw", "?format=car", "?format=tar"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_only_if_cached_fetches_nothing(http: aiohttp.ClientSession, form: str, method: str) -> None:
    path = f"/ipfs/{Cid.of(b'nobody has it')}{form}"
    assert (await ask(http, path, method=method, Cache_Control="only-if-cached")).status == 412
    assert (await ask(http, path, method=method)).status == 404


async def test_only_if_cached_of_a_name_that_isnt_there(node: FakeNode, http: aiohttp.ClientSession) -> None:
    """The directory is here and says that there is none: no fetching would help."""
    root = store_files(node.blobs.store, {"a": b"x"})
    assert (await ask(http, f"/ipfs/{root}/b", Cache_Control="only-if-cached")).status == 404
    listing = await ask(http, f"/ipfs/{root}/", Cache_Control="only-if-cached")
    assert listing.status == 200


async def test_what_the_settings_serve(node: FakeNode, http: aiohttp.ClientSession) -> None:
    cid = store_file(node.blobs.store, b"text")
    expected = {
        Gateway.PATH: (200, 200, 200),
        Gateway.TRUSTLESS: (406, 200, 406),
        Gateway.OFF: (404, 404, 404),
    }
    for served, statuses in expected.items():
        node.config = replace(node.config, api=replace(node.config.api, gateway=served))
        found = [(await ask(http, f"/ipfs/{cid}{form}")).status for form in ("", "?format=raw", "?format=tar")]
        assert tuple(found) == statuses


async def test_a_value_within_a_document(node: FakeNode, http: aiohttp.ClientSession) -> None:
    store = node.blobs.store
    leaf = store_file(store, b"leaf")
    cid = store_block(store, encode_dag_cbor({"a": {"b": 1}, "leaf": Link(leaf)}), DAG_CBOR)
    answer = await ask(http, f"/ipfs/{cid}/a/b")
    assert answer.problem.detail == f"'a/b' is a value within the document {cid}"
    assert answer.status == 501
    proof = await ask(http, f"/ipfs/{cid}/a/b?format=car&dag-scope=block")
    assert proof.status == 200
    through = await ask(http, f"/ipfs/{cid}/leaf")
    assert through.body == b"leaf"
    assert links_of(cid, store.get(cid)) == [leaf]


async def test_an_unknown_codec_is_not_content(node: FakeNode, http: aiohttp.ClientSession) -> None:
    cid = store_block(node.blobs.store, b"commit 0", 0x78)
    assert (await ask(http, f"/ipfs/{cid}")).status == 406
    assert (await ask(http, f"/ipfs/{cid}?format=raw")).body == b"commit 0"


async def test_a_document_that_is_none(node: FakeNode, http: aiohttp.ClientSession) -> None:
    """Its block is sent as it is; a page about it can't be made."""
    cid = store_block(node.blobs.store, b"\xff\xff", DAG_CBOR)
    assert (await ask(http, f"/ipfs/{cid}")).body == b"\xff\xff"
    assert (await ask(http, f"/ipfs/{cid}", Accept="text/html")).status == 422


def bomb(store: MemoryBlockStore) -> tuple[Cid, int]:
    """Nine blocks that stand for a file of 10^18 bytes."""
    leaf = b"0123456789" * 10
    cid, size = store_block(store, leaf, RAW), len(leaf)
    for _ in range(8):
        content = UnixFsNode(FileType.FILE, filesize=100 * size, blocksizes=(size,) * 100)
        node = PBNode((PBLink(cid.to_bytes(), "", size),) * 100, encode_unixfs(content))
        cid, size = store_block(store, encode_node(node), DAG_PB), 100 * size
    return cid, size


async def test_a_few_blocks_that_stand_for_very_many_bytes(node: FakeNode, http: aiohttp.ClientSession) -> None:
    cid, size = bomb(node.blobs.store)
    assert size == 10**18
    node.config = replace(node.config, limits=replace(node.config.limits, answer_bytes=1 << 20))
    refused = await ask(http, f"/ipfs/{cid}")
    assert (refused.status, refused.problem.reason) == (413, "too-large")
    assert (await ask(http, f"/ipfs/{cid}", method="HEAD")).headers["Content-Length"] == str(size)
    part = await ask(http, f"/ipfs/{cid}", Range=f"bytes={size - 3}-")
    assert (part.status, part.body) == (206, b"789")
    for form in ("?format=car&dag-scope=entity", "?format=tar"):
        received, whole = 0, False
        async with http.get(f"/ipfs/{cid}{form}") as answer:
            with contextlib.suppress(aiohttp.ClientPayloadError, aiohttp.ClientOSError):
                async for chunk in answer.content.iter_any():
                    received += len(chunk)
                whole = True
        assert (whole, received <= 1 << 20) == (False, True)
    once = await ask(http, f"/ipfs/{cid}?format=car&car-dups=n")
    assert (once.status, len(once.body) < 50_000) == (200, True)


async def test_redirects_stay_here(node: FakeNode, http: aiohttp.ClientSession) -> None:
    root = store_files(node.blobs.store, {"a": b"x"})
    answer = await ask(http, f"/ipfs/{root}?filename=x")
    assert (answer.status, answer.headers["Location"]) == (301, f"/ipfs/{root}/?filename=x")
    assert (await ask(http, f"/ipfs//{root}")).status == 404
