"""What a run is made of: plain values, so that a scenario can be printed, compared, cut down and run again."""

from dataclasses import dataclass, field
from enum import StrEnum

from consensus.parameters import Parameters


class Loss(StrEnum):
    """What a crash takes with it."""

    NOTHING = "nothing"
    TAIL = "tail"  # batches that weren't synced, from some point on
    DISK = "disk"  # everything


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """Until `heal_ms` messages are dropped, doubled and slowed with these probabilities; delays are always there.

    A link has its own base delay between min and max; each message takes up to twice that.
    """

    heal_ms: int = 0
    drop: float = 0.0
    duplicate: float = 0.0
    min_delay_ms: int = 1
    max_delay_ms: int = 30
    slow: float = 0.0
    slow_ms: int = 400


@dataclass(frozen=True, slots=True)
class Cut:
    """From `at_ms` until `until_ms` nothing travels from these to those: one direction only."""

    senders: frozenset[int]
    receivers: frozenset[int]
    at_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True)
class Crash:
    """The node dies `effects` effects after `at_ms`, wherever that is, and starts again at `at_ms + down_ms`."""

    seat: int
    at_ms: int
    down_ms: int
    effects: int
    loss: Loss = Loss.TAIL


@dataclass(frozen=True, slots=True)
class Jump:
    """At `at_ms` the node's clock is set forward or back."""

    seat: int
    at_ms: int
    by_ms: int


class Move(StrEnum):
    """What an operator asks for with a transaction."""

    JOIN = "join"
    LEAVE = "leave"
    BOND = "bond"
    UNBOND = "unbond"
    CHANGE_KEYS = "change keys"


@dataclass(frozen=True, slots=True)
class Change:
    """From `at_ms` on the seat's operator asks for this; power is the amount of stake in units of power."""

    seat: int
    at_ms: int
    move: Move
    power: int = 1


@dataclass(frozen=True, slots=True)
class History:
    """How much of the past nodes keep, and from how far behind one applies certified blocks: as a node's configuration
    and `mpisa.node.syncing` have it, in little.
    """

    blocks: int = 10
    snapshot_blocks: int = 10
    chunk_bytes: int = 1_000
    far_blocks: int = 16
    level_blocks: int = 3


@dataclass(frozen=True, slots=True)
class Arrival:
    """The node starts for the first time at `at_ms`, with nothing but genesis."""

    seat: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """Times in ms. `powers` are the first committee's, by seat; `spares` nodes more may join later and follow until
    then; `byzantine` names a strategy for each faulty seat.

    Faults end at `heal_ms`; up to there the run is under way, then everybody must make progress. Without a `history`
    every node keeps all, and nobody needs a snapshot.
    """

    seed: int
    powers: tuple[int, ...] = (1, 1, 1, 1)
    parameters: Parameters = field(default_factory=Parameters)
    heal_ms: int = 4_000
    faults: LinkFaults = field(default_factory=LinkFaults)
    cuts: tuple[Cut, ...] = ()
    crashes: tuple[Crash, ...] = ()
    jumps: tuple[Jump, ...] = ()
    skews_ms: tuple[int, ...] = ()
    byzantine: tuple[tuple[int, str], ...] = ()
    silent: frozenset[int] = frozenset()
    spares: int = 0
    changes: tuple[Change, ...] = ()
    min_epoch_ms: int = 1_000
    clients: int = 4
    pause_ms: int = 60
    history: History | None = None
    arrivals: tuple[Arrival, ...] = ()

    @property
    def count(self) -> int:
        """How many nodes there are."""
        return len(self.powers) + self.spares


def partition(members: frozenset[int], count: int, at_ms: int, until_ms: int) -> tuple[Cut, Cut]:
    """Both directions between these and all others."""
    others = frozenset(range(count)) - members
    return Cut(members, others, at_ms, until_ms), Cut(others, members, at_ms, until_ms)
