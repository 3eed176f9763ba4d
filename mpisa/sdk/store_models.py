"""The store's part of `models`: what a garbage collection found and did. See there for the conventions."""

from mpisa.sdk.chain_models import Model


class GcResult(Model, frozen=True, kw_only=True):
    """Outcome of a collection; sizes in bytes. Dead blocks are those that no pin keeps.

    `bytes_freed` is what came back less what was written again. `longest_hold_ms` is how long writes waited at most.
    `missing`: blocks that pins name and that aren't here (the first of them); `hidden_links` of these link to others,
    and while there are such nothing is collected. `stopped`: something was left undone.
    """

    marked: int
    dead_blocks: int
    dead_bytes: int
    packs_rewritten: int
    packs_removed: int
    bytes_freed: int
    bytes_rewritten: int
    longest_hold_ms: float
    seconds: float
    stopped: bool
    dry_run: bool
    hidden_links: int
    missing: tuple[str, ...]


class StoreDamage(Model, frozen=True, kw_only=True):
    """One damaged place: the file, the byte in it, whose block it was where that is known, what is wrong."""

    file: str
    offset: int
    reason: str
    cid: str | None = None


class StoreCheck(Model, frozen=True, kw_only=True):
    """All blocks of a store hashed again; `damaged` counts places, `damages` describes the first hundred."""

    blocks: int
    bytes_hashed: int
    damaged: int
    damages: tuple[StoreDamage, ...] = ()


class StoreCheckState(Model, frozen=True, kw_only=True):
    """Whether a verification runs, bytes done of about how many, and the outcome of the last one since the start."""

    running: bool
    done: int = 0
    total: int = 0
    last: StoreCheck | None = None


class Finding(Model, frozen=True, kw_only=True):
    """`what` is wrong, `why` that matters or how it is known, what to `do`."""

    what: str
    why: str
    do: str


class Diagnosis(Model, frozen=True, kw_only=True):
    """What is wrong with a node, the worst first. `pins_checked` of its recursive `pins` were looked through."""

    findings: tuple[Finding, ...]
    pins: int
    pins_checked: int


class GcState(Model, frozen=True, kw_only=True):
    """Whether a collection runs, what it is doing (mark, survey, compact), how far it is (`total` 0: unknown), and the
    outcome of the last one since the node's start.
    """

    running: bool
    phase: str = ""
    done: int = 0
    total: int = 0
    last: GcResult | None = None
