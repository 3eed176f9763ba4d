"""The gateway's pure parts: forms, ranges, types of content, headers, paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpisa.api.gateway.headers import disposition, matches
from mpisa.api.gateway.media import HEAD_BYTES, type_of_bytes, type_of_name
from mpisa.api.gateway.negotiation import Form, negotiate
from mpisa.api.gateway.paths import ContentPath, read_path
from mpisa.api.gateway.ranges import read_range
from mpisa.api.problems import RangeNotSatisfiable
from mpisa.primitives.errors import UsageError


@pytest.mark.parametrize(
    ("accept", "form", "page"),
    [
        ("", Form.CONTENT, False),
        ("*/*", Form.CONTENT, False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Form.CONTENT, True),
        ("application/vnd.ipld.car; version=1; order=dfs", Form.CAR, False),
        ("text/html;q=0.5, application/json", Form.JSON, False),
        ("application/json;q=0, application/vnd.ipld.raw;q=0.1", Form.RAW, False),
        ("application/vnd.ipld.raw, application/vnd.ipld.car", Form.RAW, False),
        ("application/json;q=nonsense, Application/X-Tar", Form.TAR, False),
        ("image/png", Form.CONTENT, False),
        (",;=,q=1," * 500, Form.CONTENT, False),
    ],
)
def test_the_accept_header(accept: str, form: Form, page: bool) -> None:
    found = negotiate(None, accept)
    assert (found.form, found.page) == (form, page)


def test_the_query_wins() -> None:
    found = negotiate("car", 'application/vnd.ipld.raw, application/vnd.ipld.car; Order="dfs"; dups=n;q=0.1')
    assert (found.form, dict(found.parameters)) == (Form.CAR, {"order": "dfs", "dups": "n"})
    with pytest.raises(UsageError):
        negotiate("content", "")


@given(st.text(), st.none() | st.text())
def test_any_accept_header_is_read(accept: str, asked: str | None) -> None:
    try:
        negotiate(asked, accept)
    except UsageError:
        assert asked is not None


@given(st.integers(0, 50), st.integers(0, 60), st.integers(0, 60))
def test_ranges_are_what_slices_are(size: int, first: int, last: int) -> None:
    data = bytes(range(size))
    expected = {
        f"bytes={first}-": data[first:],
        f"bytes={first}-{first + last}": data[first : first + last + 1],
        f"bytes=-{last}": data[-last:] if last else b"",
    }
    for text, part in expected.items():
        if not part:
            with pytest.raises(RangeNotSatisfiable):
                read_range(text, size)
            continue
        start, end = read_range(text, size) or (0, size)
        assert data[start:end] == part


@given(st.text(alphabet="bytes=0123456789-, x"), st.integers(0, 1 << 40))
def test_any_range_is_within(text: str, size: int) -> None:
    try:
        span = read_range(text, size)
    except RangeNotSatisfiable:
        return
    assert span is None or 0 <= span[0] < span[1] <= size


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html; charset=utf-8"),
        ("A.JSON", "application/json"),
        ("a.tar.gz", "application/gzip"),
        ("a.md", "text/markdown; charset=utf-8"),
        ("a.svg", "image/svg+xml"),
        ("a.safetensors", None),
        ("noname", None),
        (".", None),
        ("a.é", None),
    ],
)
def test_types_by_name(name: str, kind: str | None) -> None:
    assert type_of_name(name) == kind


@pytest.mark.parametrize(
    ("head", "whole", "kind"),
    [
        (b"", True, "text/plain; charset=utf-8"),
        (b"\x89PNG\r\n\x1a\n....", False, "image/png"),
        (b"RIFF....WEBPVP8 ", False, "image/webp"),
        (b"RIFF....junk", False, "application/octet-stream"),
        (b"....ftypisom", False, "video/mp4"),
        (b"  <!DOCTYPE HTML>", False, "text/html; charset=utf-8"),
        (b'{"a": [1]}', True, "application/json"),
        (b'{"a": [1]}', False, "text/plain; charset=utf-8"),
        (b'{"a": [1]', True, "text/plain; charset=utf-8"),
        (b"[" * HEAD_BYTES, True, "text/plain; charset=utf-8"),
        ("é".encode()[:1], True, "application/octet-stream"),
        (b"x" * 10 + "é".encode()[:1], False, "text/plain; charset=utf-8"),
        (b"\x00\x01", True, "application/octet-stream"),
    ],
)
def test_types_by_bytes(head: bytes, whole: bool, kind: str) -> None:
    assert type_of_bytes(head, whole=whole) == kind


@given(st.binary(max_size=64), st.booleans())
def test_any_bytes_have_a_type(head: bytes, whole: bool) -> None:
    assert "/" in type_of_bytes(head, whole=whole)


@pytest.mark.parametrize(
    ("header", "same"),
    [(None, False), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ("*", True), ('"b"', False), ("a", False)],
)
def test_entity_tags(header: str | None, same: bool) -> None:
    assert matches(header, '"a"') is matches(header, 'W/"a"') is same


@given(st.text(max_size=255))
def test_any_file_name_is_one_header(name: str) -> None:
    text = disposition("inline", name)
    assert text.isascii()
    assert text.isprintable()
    assert text.count('"') == 2


@given(st.lists(st.text(min_size=1).filter(lambda name: name not in (".", "..")), max_size=5), st.booleans())
def test_paths_there_and_back(parts: list[str], slash: bool) -> None:
    parts = [part.encode("utf-8", "replace").decode() for part in parts]
    path = ContentPath("ipfs", "bafy", tuple(parts), slash)
    assert str(path).isascii()
    assert read_path(str(path)) == path


@pytest.mark.parametrize("raw", ["", "/", "ipfs/a", "/ipfs", "/ipfs/", "/ipld/a", "//ipfs/a", "/ipfs//a", "/ipns/"])
def test_what_is_no_path(raw: str) -> None:
    with pytest.raises(UsageError):
        read_path(raw)
