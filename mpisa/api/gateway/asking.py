"""One request for content, and what every answer to it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.api.gateway.headers import GENERATED, IMMUTABLE, disposition, roots

if TYPE_CHECKING:
    from aiohttp import web

    from mpisa.api.gateway.negotiation import Wanted
    from mpisa.api.gateway.paths import ContentPath
    from mpisa.node.facade import NodeFacade
    from mpisa.primitives.cid import Cid
    from storage.paths import Resolved

NANOSECONDS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Ask:
    """`path` is the URL's; `found` where it leads; `local_only`: nothing may be fetched for it (only-if-cached).

    `max_age`: seconds an answer may be kept, None for ever: what lies under /ipfs never changes.
    """

    node: NodeFacade
    request: web.Request
    path: ContentPath
    wanted: Wanted
    found: Resolved
    local_only: bool
    max_age: int | None

    @property
    def cid(self) -> Cid:
        return self.found.cid

    @property
    def limit(self) -> int:
        """The bytes of an answer."""
        return self.node.config.limits.answer_bytes

    @property
    def file_name(self) -> str | None:
        """The name that the client would like to save it under."""
        return self.request.query.get("filename") or None

    def headers(self, tag: str, kind: str, policy: str, *, generated: bool = False) -> dict[str, str]:
        """Of an answer with this entity tag and Content-Type; `generated`: made here from the content."""
        if self.max_age is not None:
            lasting = f"public, max-age={self.max_age}"
        else:
            lasting = GENERATED if generated else IMMUTABLE
        return {
            "Etag": tag,
            "Content-Type": kind,
            "Cache-Control": lasting,
            "Content-Security-Policy": policy,
            "X-Content-Type-Options": "nosniff",
            "X-Ipfs-Path": str(self.path),
            "Vary": "Accept",
            **roots(self.found.roots),
        }

    def disposition(self, suffix: str | None, *, inline: bool) -> dict[str, str]:
        """How it is saved: under the client's name, or that of the CID with this suffix (None: no name, no header)."""
        attached = not inline or self.request.query.get("download") == "true"
        name = self.file_name or (f"{self.cid}.{suffix}" if suffix is not None else None)
        if name is None:
            return {"Content-Disposition": "attachment"} if attached else {}
        return {"Content-Disposition": disposition("attachment" if attached else "inline", name)}
