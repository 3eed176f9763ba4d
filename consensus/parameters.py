"""Named numbers of the protocol (docs/protocol.md, section 1).

Those under "agreed" decide what is valid and how blocks close: every node of a chain must hold the same. The others
are a node's own and only shape timing and memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from mpisa.primitives.errors import Rejection, RejectionReason

WAVE_ROUNDS: Final = 3
MAX_AUTHORITIES: Final = 256
MIN_GC_DEPTH: Final = 3 * WAVE_ROUNDS

AGREED: Final = (
    "gc_depth",
    "heartbeat_ms",
    "leaders_per_round",
    "max_evidence",
    "max_execution_signatures",
    "max_header_bytes",
    "max_payload_bytes",
    "max_vertex_bytes",
    "suspension_commits",
    "suspension_skips",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Delays in milliseconds, sizes in bytes, depths in rounds."""

    # Agreed.
    leaders_per_round: int = 2
    gc_depth: int = 60
    heartbeat_ms: int = 10_000
    max_payload_bytes: int = 1 << 20
    max_header_bytes: int = 1 << 15
    max_vertex_bytes: int = (1 << 20) + (1 << 19)
    max_evidence: int = 4
    max_execution_signatures: int = 64
    suspension_skips: int = 3
    suspension_commits: int = 256
    # Pace.
    min_round_delay_ms: int = 25
    round_timeout_ms: int = 200
    timeout_cap_ms: int = 3_200
    idle_delay_ms: int = 1_000
    first_proposal_delay_ms: int = 300
    # Waiting and fetching.
    far_behind_rounds: int = 20
    range_rounds: int = 512
    range_timeout_ms: int = 1_000
    fetch_delay_ms: int = 40
    fetch_timeout_ms: int = 250
    fetch_timeout_cap_ms: int = 2_000
    max_in_flight: int = 256
    max_refs_a_request: int = 64
    max_pending: int = 4_096
    max_pending_bytes: int = 64 << 20
    max_missing: int = 1 << 15
    max_held: int = 1_024
    max_held_bytes: int = 32 << 20
    twin_budget: int = 2
    max_twins: int = 1 << 16
    max_unpersisted: int = 256
    # Certifying: heights above the last certified one for which signatures are kept.
    certifier_window: int = 1_024
    certify_patience_rounds: int = 200

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or value < 0:
                raise Rejection(
                    RejectionReason.OUT_OF_RANGE, f"{field.name}: expected an integer from 0, got {value!r}"
                )
        for name in _POSITIVE:
            if getattr(self, name) == 0:
                raise Rejection(RejectionReason.OUT_OF_RANGE, f"{name}: expected at least 1, got 0")
        if self.gc_depth < MIN_GC_DEPTH:
            raise Rejection(
                RejectionReason.OUT_OF_RANGE, f"gc_depth: expected at least {MIN_GC_DEPTH}, got {self.gc_depth}"
            )
        if self.max_vertex_bytes < self.max_payload_bytes + self.max_header_bytes:
            raise Rejection(
                RejectionReason.OUT_OF_RANGE,
                f"max_vertex_bytes: {self.max_vertex_bytes} holds no payload of {self.max_payload_bytes} "
                f"and header of {self.max_header_bytes}",
            )

    def with_agreed(self, values: Mapping[str, int]) -> "Parameters":
        """These parameters with the chain's agreed values (as genesis names them) in place of the defaults.

        Raises Rejection(MALFORMED) for a name that isn't an agreed one, Rejection(OUT_OF_RANGE) for a value that
        can't be.
        """
        for name in values:
            if name not in AGREED:
                raise Rejection(RejectionReason.MALFORMED, f"{name[:40]!r} is no agreed consensus parameter")
        return replace(self, **dict(values))


_POSITIVE: Final = (
    "leaders_per_round",
    "round_timeout_ms",
    "timeout_cap_ms",
    "far_behind_rounds",
    "range_rounds",
    "range_timeout_ms",
    "suspension_skips",
    "fetch_timeout_ms",
    "max_in_flight",
    "max_refs_a_request",
    "max_missing",
    "max_pending",
    "max_held",
    "max_twins",
    "twin_budget",
    "max_unpersisted",
    "certifier_window",
)
