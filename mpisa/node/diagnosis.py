"""What is wrong with a node, in words: what, why, and what to do. Pure: facts in, findings out, the worst first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mpisa.primitives.cid import Cid

LOW_DISK_BYTES: Final = 1 << 30
LOW_DISK_SHARE: Final = 0.05
NEARLY_FULL: Final = 0.9
FEW_DESCRIPTORS: Final = 0.8
LAG_SHARE: Final = 0.5
"""Announcements that are late by this share of their interval may run out before they are repeated."""
MAX_NAMED: Final = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """`what` is wrong, `why` that matters or how it is known, what to `do`."""

    what: str
    why: str
    do: str


@dataclass(frozen=True, slots=True)
class Facts:
    """Sizes in bytes, times in seconds. `damaged`: places the last verification found, None when there was none.

    `pins_checked` of `pins` recursive ones were looked through; `incomplete` are those that lack blocks.
    """

    home: str
    halted: str | None
    not_ready: tuple[str, ...]
    disk_error: str | None
    disk_free: int
    disk_total: int
    store_used: int
    store_max: int | None
    open_files: int
    max_files: int
    connected: int
    expected_peers: int
    reprovide_lag: float
    reprovide_interval: float
    damaged: int | None
    first_damage: str
    pins: int
    pins_checked: int
    incomplete: tuple[Cid, ...]


def diagnose(facts: Facts) -> tuple[Finding, ...]:
    """All that is wrong; nothing for a node that is well."""
    return (*_of_service(facts), *_of_content(facts), *_of_space(facts), *_of_peers(facts))


def _of_service(facts: Facts) -> list[Finding]:
    found = []
    if facts.halted is not None:
        found.append(
            Finding(
                f"the node has halted: {facts.halted}",
                "it takes part in nothing until its operator decides",
                "read its log, then docs/operations.md",
            )
        )
    if facts.disk_error is not None:
        found.append(
            Finding(
                f"the disk refuses writes: {facts.disk_error}", "nothing new is stored", "free space: mpisa node gc"
            )
        )
    found += [
        Finding(f"not ready: {reason}", "the API answers 503 to some requests", "mpisa node status shows how far it is")
        for reason in facts.not_ready
        if reason not in (facts.disk_error, facts.halted) and not reason.startswith("halted")
    ]
    return found


def _of_content(facts: Facts) -> list[Finding]:
    found = []
    if facts.damaged:
        found.append(
            Finding(
                f"{facts.damaged} damaged places in the block store, the first: {facts.first_damage}",
                "found when everything was hashed last; what is damaged is never served",
                f"stop the node, mpisa node repair --home {facts.home}, start it, mpisa blob pin CID",
            )
        )
    found += [
        Finding(
            f"pinned {cid} lacks blocks here",
            "whoever relies on this node to keep it can't get it whole",
            f"mpisa blob pin {cid}",
        )
        for cid in facts.incomplete[:MAX_NAMED]
    ]
    if len(facts.incomplete) > MAX_NAMED:
        found.append(
            Finding(f"{len(facts.incomplete) - MAX_NAMED} more pins lack blocks", "as above", "mpisa blob verify CID")
        )
    return found


def _of_space(facts: Facts) -> list[Finding]:
    found = []
    if facts.disk_free < LOW_DISK_BYTES or facts.disk_free < facts.disk_total * LOW_DISK_SHARE:
        found.append(
            Finding(
                f"{facts.disk_free >> 20} MiB are free on the disk of {facts.home}",
                "a full disk stops writes, those of the ledger too",
                "mpisa node gc, or make room by other means",
            )
        )
    if facts.store_max is not None and facts.store_used > facts.store_max * NEARLY_FULL:
        found.append(
            Finding(
                f"the block store holds {facts.store_used >> 20} of {facts.store_max >> 20} MiB",
                "puts are refused beyond that",
                "unpin and mpisa node gc, or raise limits.store_bytes in config.toml",
            )
        )
    if facts.open_files > facts.max_files * FEW_DESCRIPTORS:
        found.append(
            Finding(
                f"{facts.open_files} of {facts.max_files} file descriptors are in use",
                "without one no connection is taken and no file opened",
                "raise it where the node is started: ulimit -n 65536",
            )
        )
    return found


def _of_peers(facts: Facts) -> list[Finding]:
    found = []
    if facts.expected_peers and not facts.connected:
        found.append(
            Finding(
                "connected to no peer",
                "nothing can be fetched, and nobody gets what is here",
                "check the network, the peers in config.toml and the clock (date)",
            )
        )
    if facts.reprovide_lag > facts.reprovide_interval * LAG_SHARE:
        found.append(
            Finding(
                f"announcements of content are {facts.reprovide_lag:.0f} s late",
                "others may not find what is here once the old ones have run out",
                "unpin what nobody needs, or give the node more CPU",
            )
        )
    return found
