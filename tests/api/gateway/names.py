"""Rows of IPNS: records, and what lies behind names. The fixtures' records run out in 2123 and later."""

from __future__ import annotations

from mpisa.primitives.cid import Cid
from mpisa.primitives.ipns import decode_record
from tests.api.gateway.documents import FOLDER
from tests.api.gateway.table import HOME, Case, at, block, holds, url
from tests.api.gateway.unixfs import CACHE, DEEP, WAY, roots

BOTH = "k51qzi5uqu5dlkw8pxuw9qmqayfdeh4kfebhmreauqdc6a7c3y7d5i9fi8mk9w"
SECOND = "k51qzi5uqu5dit2ku9mutlfgwyz8u730on38kd10m97m36bjt66my99hb6103f"
BROKEN_FIRST = "k51qzi5uqu5dilgf7gorsh9vcqqq4myo6jd4zmqkuy9pxyxi5fua3uf7axph4y"
REFUSED = {
    "only the old signature": "k51qzi5uqu5dm4tm0wt8srkg9h9suud4wuiwjimndrkydqm81cqtlb5ak6p7ku",
    "old fields that say something else": "k51qzi5uqu5dlmit2tuwdvnx4sbnyqgmvbxftl0eo3f33wwtb9gr7yozae9kpw",
    "a broken signature": "k51qzi5uqu5diamp7qnnvs1p1gzmku3eijkeijs3418j23j077zrkok63xdm8c",
}
CACHED = "k51qzi5uqu5dlxdsdu5fpuu7h69wu4ohp32iwm9pdt9nq3y5rpn3ln9j12zfhe"
BELOW = "k51qzi5uqu5djokp3m1keo36hoxtd6u3a1d2rg1camf6al7p3huy63dojlm57c"
DOCUMENTS = {
    "json": "k51qzi5uqu5dhjghbwdvbo6mi40htrq6e2z4pwgp15pgv3ho1azvidttzh8yy2",
    "cbor": "k51qzi5uqu5dghjous0agrwavl8vzl64xckoqzwqeqwudfr74kfd11zcyk3b7l",
}
RECORD = "application/vnd.ipfs.ipns-record"


def raw_record(name: str) -> bytes:
    (file,) = HOME.rglob(f"{name}*.ipns-record")
    return file.read_bytes()


def value_of(name: str) -> bytes:
    """What the record points to: the digest of an identity CID."""
    return Cid.parse(decode_record(raw_record(name)).value.removeprefix("/ipfs/")).digest


RECORD_HEADERS = {
    "Content-Disposition": "attachment;.*",
    "Content-Type": RECORD,
    "Cache-Control": "public, max-age=1800",
}
RECORD_CASES = (
    *(
        case
        for name, title in ((BOTH, "both signatures"), (SECOND, "the new signature"))
        for case in (
            Case(
                f"a record with {title}",
                url(name, space="ipns"),
                "format=ipns-record",
                headers=RECORD_HEADERS,
                body=raw_record(name),
            ),
            Case(
                f"a record with {title} (Accept)",
                url(name, space="ipns"),
                ask={"Accept": RECORD},
                headers=RECORD_HEADERS,
                body=raw_record(name),
            ),
        )
    ),
    Case(
        "the client's file name",
        url(BOTH, space="ipns"),
        "format=ipns-record&filename=test%D1%82%D0%B5%D1%81%D1%82.ipns-record",
        headers={
            "Content-Disposition": 'attachment; filename="test____.ipns-record"; '
            r"filename\*=UTF-8''test%D1%82%D0%B5%D1%81%D1%82.ipns-record"
        },
    ),
)
NAME_CASES = (
    *(Case(title, url(name, space="ipns"), status=range(500, 600)) for title, name in REFUSED.items()),
    *(
        Case(title, url(name, space="ipns"), body=value_of(name))
        for title, name in (
            ("a broken old signature counts for nothing", BROKEN_FIRST),
            ("both signatures", BOTH),
            ("the new signature alone", SECOND),
        )
    ),
    Case(
        "an Ed25519 name in base58",
        "/ipns/12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK/root2/",
        status=302,
        headers={"Location": "/ipns/k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8/root2/"},
    ),
    Case(
        "an RSA name in base58",
        "/ipns/QmcJM7PRfkSbcM5cf1QugM5R37TLRKyJGgBEhXjLTB8uA2/root2/",
        status=302,
        headers={"Location": "/ipns/k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger/root2/"},
    ),
    Case("a record that points below a root", url(BELOW, "/root3/root4/index.html", "ipns"), body=b"hello\n"),
)

KEPT = "public, max-age=[0-9]+"
BASE = url(CACHED, space="ipns")
CACHE_CASES = (
    Case(
        "a listing under a name",
        f"{BASE}/root2/root3/",
        headers={
            "X-Ipfs-Path": f"{BASE}/root2/root3/",
            "X-Ipfs-Roots": roots(3),
            "Etag": f'"DirIndex-.*_CID-{WAY[2]}"',
            "Cache-Control": KEPT,
        },
    ),
    Case(
        "an index.html under a name",
        f"{BASE}/{DEEP}/",
        headers={
            "X-Ipfs-Path": f"{BASE}/{DEEP}/",
            "X-Ipfs-Roots": roots(4),
            "Etag": f'"{WAY[3]}"',
            "Cache-Control": KEPT,
        },
    ),
    Case(
        "a file under a name",
        f"{BASE}/{DEEP}/index.html",
        headers={
            "X-Ipfs-Path": f"{BASE}/{DEEP}/index.html",
            "X-Ipfs-Roots": roots(5),
            "Etag": f'"{WAY[4]}"',
            "Cache-Control": KEPT,
        },
    ),
    Case(
        "a block under a name",
        f"{BASE}/{DEEP}/",
        "format=raw",
        headers={"Cache-Control": KEPT},
        body=block(CACHE, DEEP),
    ),
    Case(
        "the client's file under a name",
        f"{BASE}/{DEEP}/index.html",
        ask={"If-None-Match": f'"{WAY[4]}"'},
        status=304,
        body=b"",
    ),
)
DOCUMENT_CASES = tuple(
    case
    for form, name in DOCUMENTS.items()
    for fixture in (f"{FOLDER}/dag-{form}-traversal.car",)
    for kind in (f"application/vnd.ipld.dag-{form}",)
    for case in (
        Case(f"dag-{form} under a name", url(name, space="ipns"), body=block(fixture)),
        Case(f"dag-{form} under a name by ?format", url(name, space="ipns"), f"format=dag-{form}", body=block(fixture)),
        Case(
            f"headers of dag-{form} under a name",
            url(name, space="ipns"),
            ask={"Accept": kind},
            headers={
                "Content-Type": kind,
                "Etag": f'"{at(fixture)}.dag-{form}"',
                "X-Ipfs-Path": url(name, space="ipns"),
                "X-Ipfs-Roots": str(at(fixture)),
            },
        ),
        Case(
            f"a page about dag-{form} under a name",
            f"{url(name, space='ipns')}/",
            ask={"Accept": "text/html"},
            headers={
                "Etag": '"DagIndex-.*"',
                "Content-Type": "text/html.*",
                "Content-Disposition": "",
                "Cache-Control": KEPT,
            },
            check=holds("</html>"),
        ),
    )
)
