"""Import profiles, under the name that users of the store know; they are part of the formats."""

from mpisa.primitives.profiles import (
    DEFAULT_PROFILE,
    PROFILES,
    UNIXFS_V0_2015,
    UNIXFS_V1_2025,
    DirectoryEstimate,
    Profile,
    profile_by_name,
)

__all__ = [
    "DEFAULT_PROFILE",
    "PROFILES",
    "UNIXFS_V0_2015",
    "UNIXFS_V1_2025",
    "DirectoryEstimate",
    "Profile",
    "profile_by_name",
]
