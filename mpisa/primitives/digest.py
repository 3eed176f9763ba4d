"""SHA-256 and its domain tags.

Every digest that is signed or chained starts with `MPISA/<tag>/1` and a zero byte, so that bytes made for one purpose
never pass for another's. Tags are plain lower-case words; the trailing 1 is the version of what follows.
"""

import hashlib
from functools import lru_cache
from typing import Final

DIGEST_BYTES: Final = 32
ZERO_DIGEST: Final = bytes(DIGEST_BYTES)
_MAX_CACHED_TAGS: Final = 64


@lru_cache(maxsize=_MAX_CACHED_TAGS)
def tag_prefix(tag: str) -> bytes:
    """The bytes `MPISA/<tag>/1\\0` that open everything hashed or signed for the purpose `tag`."""
    return b"MPISA/" + tag.encode("ascii") + b"/1\0"


def sha256(*parts: bytes) -> bytes:
    """SHA-256 of the parts, one after the other: 32 bytes. The caller keeps the parts unambiguous (fixed widths)."""
    return hashlib.sha256(b"".join(parts)).digest()


def tagged(tag: str, *parts: bytes) -> bytes:
    """SHA-256 of the domain tag and the parts: 32 bytes."""
    return hashlib.sha256(tag_prefix(tag) + b"".join(parts)).digest()


def chain_hash(chain_id: str, genesis_hash: bytes) -> bytes:
    """The identity of a chain: sha256("MPISA/chain/1\\0" | chain id | 00 | hash of the genesis document)."""
    return tagged("chain", chain_id.encode("utf-8"), b"\0", genesis_hash)
