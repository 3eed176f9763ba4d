"""The path of a request, taken apart: a root and names below it, each decoded once, after the path was split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

from mpisa.primitives.car_stream import MAX_TREE_DEPTH
from mpisa.primitives.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SAFE: Final = "!$&'()*+,;=:@"


@dataclass(frozen=True, slots=True)
class ContentPath:
    """`space` is "ipfs" or "ipns", `root` the CID or name as text, `slash` whether the path ends with one."""

    space: str
    root: str
    parts: tuple[str, ...]
    slash: bool

    def __str__(self) -> str:
        """As it is written in a URL and in headers: ASCII."""
        return link(self.space, self.root, self.parts) + ("/" if self.slash else "")


def read_path(raw: str) -> ContentPath:
    """From a URL's path as it was sent, or an IPNS record's value. Raises UsageError; empty names are passed over."""
    empty, space, *rest = raw.split("/") if "/" in raw else (raw, "")
    if empty or space not in ("ipfs", "ipns") or not any(rest[:1]):
        raise UsageError(f"path {raw[:80]!r}: expected /ipfs/CID or /ipns/NAME and names below it")
    root, *names = [_decode(name) for name in rest]
    parts = tuple(name for name in names if name)
    if len(parts) > MAX_TREE_DEPTH:
        raise UsageError(f"a path of more than {MAX_TREE_DEPTH} parts")
    if any(part in (".", "..") for part in parts):
        raise UsageError("a path has no parts named . or ..")
    return ContentPath(space, root, parts, raw.endswith("/"))


def link(space: str, root: str, parts: Iterable[str]) -> str:
    """A URL's path, without a slash at its end."""
    return "/" + "/".join((space, quote(root, safe=_SAFE), *(quote(part, safe=_SAFE) for part in parts)))


def _decode(name: str) -> str:
    try:
        return unquote_to_bytes(name).decode()
    except UnicodeError:
        raise UsageError(f"path: {name[:40]!r} is not UTF-8") from None
