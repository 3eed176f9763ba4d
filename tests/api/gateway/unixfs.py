"""Rows of the path gateway: files, listings, caches, ranges, symlinks, and tar archives."""

from __future__ import annotations

import io
import tarfile

from mpisa.api.gateway.pages import PAGE_VERSION
from tests.api.gateway.table import GENERATED, IMMUTABLE, Case, Check, at, block, holds, lacks, url

LISTING = "dir_listing/fixtures.car"
CACHE = "gateway-cache/fixtures.car"
FILES = "path_gateway_unixfs/dir-with-files.car"
PERCENT = "path_gateway_unixfs/dir-with-percent-encoded-filename.car"
SYMLINK = "path_gateway_unixfs/symlink.car"
TARS = "path_gateway_tar/fixtures.car"
OUTSIDE, INSIDE = "path_gateway_tar/outside-root.car", "path_gateway_tar/inside-root.car"
HOLED = "trustless_gateway_car/file-3k-and-3-blocks-missing-block.car"

ROOT = url(at(LISTING))
QUOTED = "%C4%85/%C4%99"
NAMED = "file-%C5%BA%C5%82.txt"
LISTINGS = (
    Case("a root has no link upwards", f"{ROOT}/", check=holds("Index of")),
    Case("no link upwards from the root", f"{ROOT}/", check=lacks(f'<a href="{ROOT}/">..</a>', ">..<")),
    Case(
        "a directory without its slash",
        f"{ROOT}/{QUOTED}",
        status=301,
        headers={"Location": f"{ROOT}/{QUOTED}/"},
    ),
    Case(
        "a listing",
        f"{ROOT}/{QUOTED}/",
        headers={"Etag": '"DirIndex-.*"', "Content-Type": "text/html; charset=utf-8"},
        check=holds(
            "Index of",
            f'/ipfs/<a href="{ROOT}">{at(LISTING)}</a>/<a href="{ROOT}/%C4%85">ą</a>/<a href="{ROOT}/{QUOTED}">ę</a>',
            f'<a href="{ROOT}/{QUOTED}/..">..</a>',
            f'<a href="{ROOT}/{QUOTED}/{NAMED}">file-źł.txt</a>',
            f'<a class="ipfs-hash" translate="no" href="/ipfs/{at(LISTING, "ą/ę/file-źł.txt")}'
            '?filename=file-%25C5%25BA%25C5%2582.txt">',
        ),
    ),
    Case("no such name", f"{ROOT}/i-do-not-exist", status=404),
)

DEEP, TOP = "root2/root3/root4", at(CACHE)
WAY = [TOP, at(CACHE, "root2"), at(CACHE, "root2/root3"), at(CACHE, DEEP), at(CACHE, f"{DEEP}/index.html")]
BASE = url(TOP)
INDEX = f"{BASE}/{DEEP}/index.html"
CACHED = {"Cache-Control": "only-if-cached"}
ABSENT = "/ipfs/QmYzfKSE55XCjD1MW128RfciAf2DViABhEiXfgVFMabSjN"


def roots(count: int) -> str:
    return ",".join(str(cid) for cid in WAY[:count])


def held(name: str, path: str, tags: str) -> Case:
    return Case(name, path, ask={"If-None-Match": tags}, status=304, body=b"")


LISTED = f"DirIndex-{PAGE_VERSION}_CID-{WAY[2]}"
CACHES = (
    Case(
        "a listing in caches",
        f"{BASE}/root2/root3/",
        headers={
            "X-Ipfs-Path": f"{BASE}/root2/root3/",
            "X-Ipfs-Roots": roots(3),
            "Etag": f'"DirIndex-.*_CID-{WAY[2]}"',
            "Cache-Control": GENERATED,
        },
    ),
    Case(
        "a directory with index.html",
        f"{BASE}/{DEEP}/",
        headers={
            "Cache-Control": IMMUTABLE,
            "X-Ipfs-Path": f"{BASE}/{DEEP}/",
            "X-Ipfs-Roots": roots(4),
            "Etag": f'"{WAY[3]}"',
            "Content-Type": "text/html; charset=utf-8",
        },
        body=b"hello\n",
    ),
    Case(
        "a file",
        INDEX,
        headers={"Cache-Control": IMMUTABLE, "X-Ipfs-Path": INDEX, "X-Ipfs-Roots": roots(5), "Etag": f'"{WAY[4]}"'},
        body=b"hello\n",
    ),
    Case(
        "a directory's block",
        f"{BASE}/{DEEP}/",
        "format=raw",
        headers={"Cache-Control": IMMUTABLE},
        body=block(CACHE, DEEP),
    ),
    Case("HEAD of what is here", f"{BASE}/{DEEP}/", "format=raw", CACHED, "HEAD"),
    Case("HEAD of what isn't", ABSENT, ask=CACHED, method="HEAD", status=412),
    Case("what is here", f"{BASE}/{DEEP}/", "format=raw", CACHED),
    Case("what isn't", ABSENT, ask=CACHED, status=412),
    held("the client's file", INDEX, f'"{WAY[4]}"'),
    held("the client's index.html", f"{BASE}/{DEEP}/", f'"{WAY[3]}"'),
    held("the third of its tags", INDEX, f'"fake1", "fake2", "{WAY[4]}"'),
    held("a weak tag", INDEX, f'W/"{WAY[4]}"'),
    held("any tag", INDEX, "*"),
    held("the client's listing", f"{BASE}/root2/root3/", f'"{LISTED}"'),
    held("a weak tag of a listing", f"{BASE}/root2/root3/", f'W/"{LISTED}"'),
)

LINKED = url(at(SYMLINK))
SYMLINKS = (
    Case("a listing with a symlink", f"{LINKED}/", check=holds(">foo<", ">bar<")),
    Case("the directory's block", LINKED, "format=raw", body=block(SYMLINK)),
    Case("a symlink", f"{LINKED}/bar", body=b"foo"),
)

TEXT = block(FILES, "ascii.txt")
ASCII = f"{url(at(FILES))}/ascii.txt"
RANGES = (
    Case("ranges are taken", ASCII, headers={"Accept-Ranges": "bytes"}, body=TEXT),
    Case(
        "one range",
        ASCII,
        ask={"Range": "bytes=6-16"},
        status=206,
        headers={"Content-Range": "bytes 6-16/31"},
        body=TEXT[6:17],
    ),
    Case(
        "the end",
        ASCII,
        ask={"Range": "bytes=-3"},
        status=206,
        headers={"Content-Range": "bytes 28-30/31"},
        body=TEXT[28:],
    ),
    Case(
        "of several the first",
        ASCII,
        ask={"Range": "bytes=6-16,0-4"},
        status=206,
        headers={"Content-Range": "bytes 6-16/31"},
        body=TEXT[6:17],
    ),
    Case(
        "a block behind it is missing",
        url(at(HOLED)),
        ask={"Range": "bytes=997-1000"},
        status=206,
        headers={"Content-Range": "bytes 997-1000/3072"},
    ),
    Case(
        "a block before it is missing",
        url(at(HOLED)),
        ask={"Range": "bytes=2200-2201"},
        status=206,
        headers={"Content-Range": "bytes 2200-2201/3072"},
    ),
    Case(
        "a name with a percent sign",
        f"{url(at(PERCENT))}/Portugal%252C+Espa%C3%B1a=Peninsula%20Ib%C3%A9rica.txt",
        body=block(PERCENT, "Portugal%2C+España=Peninsula Ibérica.txt"),
    ),
)
UNIXFS_CASES = (*LISTINGS, *CACHES, *SYMLINKS, *RANGES)

FILE = at(TARS, "ą/ę/file-źł.txt")
ARCHIVED = "I am a txt file on path with utf8\n"


def archive(path: str, content: str | None) -> Check:
    """A tar archive with a file at that path, of that content (None: any)."""

    def check(body: bytes) -> bool:
        with tarfile.open(fileobj=io.BytesIO(body)) as read:
            file = read.extractfile(path)
            return file is not None and content in (None, file.read().decode())

    return check


TAR_HEADERS = {
    "Content-Disposition": "attachment;.*",
    "Etag": f'W/"{FILE}.x-tar.*"',
    "Content-Type": "application/x-tar",
}
TAR_CASES = (
    Case("?format=tar", url(FILE), "format=tar", headers=TAR_HEADERS, check=archive(str(FILE), ARCHIVED)),
    Case(
        "by Accept",
        url(FILE),
        ask={"Accept": "application/x-tar"},
        headers=TAR_HEADERS,
        check=archive(str(FILE), ARCHIVED),
    ),
    Case("a tree", url(at(TARS)), "format=tar", check=archive(f"{at(TARS)}/ą/ę/file-źł.txt", ARCHIVED)),
    Case(
        "the client's file name",
        url(at(TARS)),
        "format=tar&filename=test%D1%82%D0%B5%D1%81%D1%82.tar",
        headers={
            "Content-Disposition": 'attachment; filename="test____.tar"; '
            r"filename\*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.tar"
        },
    ),
    Case("a name that leads out of the root", url(at(OUTSIDE)), "format=tar", status=range(400, 600)),
    Case(
        "a name that leads upwards within it",
        url(at(INSIDE)),
        "format=tar",
        check=archive(f"{at(INSIDE)}/foobar/file", None),
    ),
)
