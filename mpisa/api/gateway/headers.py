"""Headers of an answer: validators, how long it may be kept, under which name it is saved."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mpisa.primitives.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mpisa.primitives.cid import Cid

IMMUTABLE: Final = "public, max-age=29030400, immutable"
GENERATED: Final = "public, max-age=604800, stale-while-revalidate=2678400"
"""For pages made here from immutable content: another version of this program may make them differently."""

SANDBOX: Final = "sandbox; frame-ancestors 'none'"
"""For what strangers wrote: no scripts, no origin, so that a page can't act as this node's own."""

OWN_PAGE: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
"""For pages made here: they have neither scripts nor anything to load."""

MAX_FILE_NAME_CHARACTERS: Final = 255
MAX_ROOTS_CHARACTERS: Final = 4_000
"""Beyond, many clients refuse the header, so a path that goes deeper is answered without it."""

_ENTITY_TAG: Final = re.compile(r'(?:W/)?("[^"]*")')
_UNSAFE: Final = re.compile(r'[^\x20-\x7e]|["\\]')


def matches(header: str | None, tag: str) -> bool:
    """Whether If-None-Match names this entity tag; weak and strong ones of the same value are alike here."""
    if header is None:
        return False
    return header.strip() == "*" or tag.removeprefix("W/") in _ENTITY_TAG.findall(header)


def tag_of(*parts: object) -> str:
    """Some hex digits that stand for these values."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def disposition(kind: str, name: str) -> str:
    """Content-Disposition: ASCII for all, and the name itself for who reads RFC 8187. Nothing of it ends the header."""
    if len(name) > MAX_FILE_NAME_CHARACTERS:
        raise UsageError(f"filename: expected at most {MAX_FILE_NAME_CHARACTERS} characters, got {len(name)}")
    plain = _UNSAFE.sub("_", name)
    shown = f'{kind}; filename="{plain}"'
    return shown if plain == name else f"{shown}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def roots(cids: Sequence[Cid]) -> dict[str, str]:
    """X-Ipfs-Roots: the CID of the root and of each name of the path."""
    text = ",".join(str(cid) for cid in cids)
    return {"X-Ipfs-Roots": text} if len(text) <= MAX_ROOTS_CHARACTERS else {}
