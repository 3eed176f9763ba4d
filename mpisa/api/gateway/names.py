"""What an IPNS name points to, through records that this node keeps; a name may point to another."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.api.gateway.asking import NANOSECONDS
from mpisa.api.gateway.paths import ContentPath, read_path
from mpisa.primitives.errors import NotFound, Rejection, Unreachable, UsageError
from mpisa.primitives.ipns import name_text, parse_name

if TYPE_CHECKING:
    from mpisa.node.facade import Names
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.ipns import IpnsRecord

MAX_NAMES: Final = 16
"""Names that may lead to one another before content is reached."""


@dataclass(frozen=True, slots=True)
class Pointed:
    """A path under /ipfs, and for how many seconds it may be taken for true."""

    path: ContentPath
    max_age: int


def read_name(text: str) -> Cid:
    """A name from a URL. Raises Rejection(BAD_CID); UsageError for a domain, which this gateway doesn't ask DNS for."""
    try:
        return parse_name(text)
    except Rejection as error:
        if "." in text:
            raise UsageError(f"{text[:80]!r} is a domain name: DNSLink isn't served here", hint=error.detail) from None
        raise


async def record_of(names: Names, name: Cid) -> IpnsRecord:
    """The record of a name, valid now. Raises Unreachable where there is none: the name may exist all the same."""
    try:
        return await names.get(name)
    except (NotFound, Rejection) as error:
        raise Unreachable(
            f"the name {name_text(name)} can't be resolved here: {error}",
            hint="PUT a valid record to /v1/ipns/NAME; records aren't looked up elsewhere",
        ) from None


def seconds_to_keep(record: IpnsRecord) -> int:
    """How long an answer that rests on the record may be cached: its TTL, and never beyond its end."""
    return max(min(record.ttl_ns // NANOSECONDS, (record.expires_ms - int(time.time() * 1000)) // 1000), 0)


async def follow(names: Names, name: Cid) -> Pointed:
    """Where the name leads. Raises Unreachable."""
    parts: tuple[str, ...] = ()
    max_age: int | None = None
    for _ in range(MAX_NAMES):
        record = await record_of(names, name)
        seconds = seconds_to_keep(record)
        max_age = seconds if max_age is None else min(max_age, seconds)
        try:
            value = read_path(record.value)
            parts = (*value.parts, *parts)
            if value.space == "ipfs":
                return Pointed(ContentPath("ipfs", value.root, parts, value.slash), max_age)
            name = read_name(value.root)
        except (UsageError, Rejection) as error:
            raise Unreachable(f"the name {name_text(name)} points to what is no path: {error}") from None
    raise Unreachable(f"more than {MAX_NAMES} names lead to one another")
