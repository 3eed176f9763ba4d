"""The committed window: which vertices above the garbage collection round are ordered (docs/protocol.md, section 7).

Together with the checkpoint it is all that the next commit depends on. Headers carry its root, so that nodes which
came here by different ways (live, from the store, by ranges, from a snapshot) can't go on differently.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from consensus.dag.vertex import VertexRef
from consensus.order.checkpoint import Checkpoint, window_root


class Window:
    """The ids of ordered vertices by round. Immutable."""

    __slots__ = ("_rounds",)

    def __init__(self, rounds: Mapping[int, tuple[bytes, ...]] | None = None) -> None:
        self._rounds: Mapping[int, tuple[bytes, ...]] = {} if rounds is None else rounds

    def moved(self, refs: Iterable[tuple[int, int, bytes]], gc_round: int) -> "Window":
        """With these ordered too, and without the rounds up to `gc_round`."""
        rounds = {number: ids for number, ids in self._rounds.items() if number > gc_round}
        for number, _, identifier in refs:
            if number > gc_round:
                rounds[number] = (*rounds.get(number, ()), identifier)
        return Window(rounds)

    def root(self, checkpoint: Checkpoint) -> bytes:
        """The window root behind the checkpoint's last commit."""
        return window_root(checkpoint, chain.from_iterable(self._rounds.values()))


def find_window(
    checkpoint: Checkpoint, gc_depth: int, parents: Callable[[VertexRef], Iterable[VertexRef] | None]
) -> tuple[Window, VertexRef | None]:
    """The window of a checkpoint: the ancestors of its leaders; and the first vertex that isn't there, None when all
    are.

    `parents` gives what a vertex builds on, or None for one that isn't there.
    """
    gc_round = checkpoint.gc_round(gc_depth)
    waiting = [ref for ref in checkpoint.leaders if ref.round > gc_round]
    known = {ref.id for ref in waiting}
    found: list[VertexRef] = []
    while waiting:
        ref = waiting.pop()
        below = parents(ref)
        if below is None:
            return Window(), ref
        found.append(ref)
        for parent in below:
            if parent.round > gc_round and parent.id not in known:
                known.add(parent.id)
                waiting.append(parent)
    return Window().moved(found, gc_round), None
