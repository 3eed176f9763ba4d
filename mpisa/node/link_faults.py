"""Faults of links as people ask for them, and as the network applies them (`mpisa.network.gate`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.network.ports import LinkRule, PeerId
from mpisa.node.views import LinkFault
from mpisa.primitives.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_FAULTS = 256
MAX_DELAY_MS = 60_000


def rules_of(faults: Sequence[LinkFault]) -> dict[PeerId, LinkRule]:
    """Raises UsageError for values out of bounds."""
    if len(faults) > MAX_FAULTS:
        raise UsageError(f"faults: expected at most {MAX_FAULTS}, got {len(faults)}")
    for fault in faults:
        for name, value, most in (
            ("delay_ms", fault.delay_ms, MAX_DELAY_MS),
            ("jitter_ms", fault.jitter_ms, MAX_DELAY_MS),
            ("drop_percent", fault.drop_percent, 100),
        ):
            if not 0 <= value <= most:
                raise UsageError(f"{name}: expected 0 to {most}, got {value}")
    return {
        PeerId(fault.peer_id): LinkRule(fault.cut, fault.delay_ms, fault.jitter_ms, fault.drop_percent)
        for fault in faults
    }


def faults_of(rules: Mapping[PeerId, LinkRule]) -> tuple[LinkFault, ...]:
    """By ascending peer id."""
    return tuple(
        LinkFault(peer, rule.cut, rule.delay_ms, rule.jitter_ms, rule.drop_percent)
        for peer, rule in sorted(rules.items())
    )
