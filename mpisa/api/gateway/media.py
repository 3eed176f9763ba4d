"""What type of content a file is, by its name or else by its first bytes.

The names are Python's own table, without those of the machine's files, so that nodes answer alike. Whoever shows the
bytes is told not to guess again (nosniff).
"""

from __future__ import annotations

import json
import mimetypes
import re
from typing import Final

HEAD_BYTES: Final = 4_096
"""Enough to guess from."""

BINARY: Final = "application/octet-stream"
_BY_NAME: Final = mimetypes.MimeTypes()
_OWN: Final = {".md": "text/markdown", ".webp": "image/webp", ".woff2": "font/woff2", ".wasm": "application/wasm"}
_ENCODINGS: Final = {"gzip": "application/gzip", "bzip2": "application/x-bzip2", "xz": "application/x-xz"}
_MAGIC: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"\x1f\x8b\x08", "application/gzip"),
    (b"\x00asm", "application/wasm"),
    (b"OggS", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"\x1aE\xdf\xa3", "video/webm"),
)
_PAGE: Final = re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def type_of_name(name: str) -> str | None:
    """The Content-Type that a file's name tells; None where it tells none."""
    found = _by_name(name)
    return None if found is None else _with_charset(found)


def type_of_bytes(head: bytes, *, whole: bool) -> str:
    """The Content-Type of a file that begins so; `whole`: these are all of its bytes."""
    return _with_charset(_by_bytes(head, whole=whole))


def _with_charset(kind: str) -> str:
    return f"{kind}; charset=utf-8" if kind.startswith("text/") else kind


def _by_name(name: str) -> str | None:
    suffix = name[name.rfind(".") :].lower() if "." in name else ""
    if suffix in _OWN:
        return _OWN[suffix]
    kind, encoding = _BY_NAME.guess_type(f"file{suffix}") if suffix.isascii() else (None, None)
    return _ENCODINGS.get(encoding, BINARY) if encoding is not None else kind


def _by_bytes(head: bytes, *, whole: bool) -> str:
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if head[:4] == b"RIFF":
        return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12], BINARY)
    if head[4:8] == b"ftyp":
        return "video/mp4"
    if _PAGE.match(head):
        return "text/html"
    text = _text(head, whole=whole)
    if text is None:
        return BINARY
    return "application/json" if whole and _is_json(text) else "text/plain"


def _text(head: bytes, *, whole: bool) -> str | None:
    """UTF-8 without control characters; the last character may be cut unless this is all."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(head) - 3:
            return None
        text = head[: error.start].decode()
    return None if _CONTROL.search(text) else text


def _is_json(text: str) -> bool:
    if not text.lstrip().startswith(("{", "[")):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
