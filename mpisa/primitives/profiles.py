"""Import profiles: every choice that decides which CID a file or a directory gets.

Two named profiles are what the IPFS world agreed upon. A profile also fixes how the size of a directory is estimated
when it may have to be sharded; no other option changes that. Overrides are made with `Profile.replace`.
"""

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from mpisa.primitives.errors import UsageError

MAX_CHUNK_BYTES = 2 * 1024 * 1024 - 256
"""Leaves room for a UnixFS envelope within the largest block."""

MIN_CHUNK_BYTES = 1
MIN_LINKS = 2
MAX_LINKS = 8192
"""A file node of that many links has about 450 KiB."""

MAX_HAMT_THRESHOLD = 1 << 31
"""Whatever the threshold, a directory that does not fit one block is refused."""


class DirectoryEstimate(StrEnum):
    """How the size of a directory is measured against the threshold."""

    BLOCK_BYTES = "block-bytes"
    """The exact length of its dag-pb block."""

    LINKS_BYTES = "links-bytes"
    """The lengths of all names and of all CIDs."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Parameters of an import; sizes in bytes. Raises UsageError for values out of range.

    `preserve_mode` and `preserve_mtime` store permission bits and modification times, which gives other CIDs.
    """

    name: str
    cid_version: int
    raw_leaves: bool
    chunk_size: int
    max_links: int
    hamt_threshold: int
    hamt_estimate: DirectoryEstimate
    hamt_fanout: int = 256
    preserve_mode: bool = False
    preserve_mtime: bool = False

    def __post_init__(self) -> None:
        if self.cid_version not in (0, 1):
            raise UsageError(f"the CID version must be 0 or 1, not {self.cid_version}")
        _check_range("chunk size", self.chunk_size, MIN_CHUNK_BYTES, MAX_CHUNK_BYTES)
        _check_range("number of links", self.max_links, MIN_LINKS, MAX_LINKS)
        _check_range("HAMT threshold", self.hamt_threshold, 0, MAX_HAMT_THRESHOLD)
        if self.hamt_fanout != 256:
            raise UsageError(f"the HAMT fanout must be 256, not {self.hamt_fanout}")

    def replace(self, **changes: Any) -> "Profile":
        """A copy with some parameters changed; entries whose value is None are left as they are."""
        return dataclasses.replace(self, **{key: value for key, value in changes.items() if value is not None})


def _check_range(what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise UsageError(f"the {what} must be from {low} to {high}, not {value}")


UNIXFS_V1_2025 = Profile(
    name="unixfs-v1-2025",
    cid_version=1,
    raw_leaves=True,
    chunk_size=1024 * 1024,
    max_links=1024,
    hamt_threshold=256 * 1024,
    hamt_estimate=DirectoryEstimate.BLOCK_BYTES,
)

UNIXFS_V0_2015 = Profile(
    name="unixfs-v0-2015",
    cid_version=0,
    raw_leaves=False,
    chunk_size=256 * 1024,
    max_links=174,
    hamt_threshold=256 * 1024,
    hamt_estimate=DirectoryEstimate.LINKS_BYTES,
)

DEFAULT_PROFILE = UNIXFS_V1_2025
KEPT = frozenset(("mode", "mtime"))
"""What may be kept besides bytes and names."""

PROFILES = MappingProxyType({profile.name: profile for profile in (UNIXFS_V1_2025, UNIXFS_V0_2015)})


def profile_by_name(name: str) -> Profile:
    """The named profile; `,mode` and `,mtime` behind its name keep these. Raises UsageError for others."""
    base, *kept = name.split(",")
    profile = PROFILES.get(base)
    if profile is None:
        raise UsageError(f"unknown profile {base!r}; known are {', '.join(PROFILES)}")
    if not kept:
        return profile
    if len(set(kept)) != len(kept) or not set(kept) <= KEPT:
        raise UsageError(f"a profile can keep {' and '.join(f',{what}' for what in sorted(KEPT))}, not {name[:80]!r}")
    return profile.replace(name=name, preserve_mode="mode" in kept, preserve_mtime="mtime" in kept)
