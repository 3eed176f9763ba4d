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


class GcState(Model, frozen=True, kw_only=True):
    """Whether a collection runs, what it is doing (mark, survey, compact), how far it is (`total` 0: unknown), and the
    outcome of the last one since the node's start.
    """

    running: bool
    phase: str = ""
    done: int = 0
    total: int = 0
    last: GcResult | None = None
