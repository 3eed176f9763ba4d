"""What to answer to a question for missing ancestors: those, and recent ones below them (docs/protocol.md, section 4).

Whoever lacks a vertex mostly lacks some of its ancestors too, and would find out one round trip after the other. So
a question says how far the asker has come with each author, and the answer brings what is newer, nearest first, within
bounds. What an asker lacks below that, it asks for.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from consensus.dag.vertex import VertexRef, decode_vertex
from consensus.parameters import Parameters

MAX_PUSHED: Final = 64
PUSHED_ROUNDS: Final = 20
ANSWER_BYTES: Final = 8 << 20


def answer_ancestors(
    refs: Iterable[VertexRef],
    have: Sequence[int],
    lookup: Callable[[VertexRef], bytes | None],
    parameters: Parameters,
) -> list[bytes]:
    """The vertices asked for that are here, and recent ancestors of them that the asker lacks, ancestors first.

    `have` is the highest round that the asker has of each author (nothing is pushed of one that it doesn't name), and
    `lookup` the store. At most MAX_PUSHED vertices of PUSHED_ROUNDS rounds are pushed, and ANSWER_BYTES in all, by one
    vertex more at most.
    """
    found: dict[VertexRef, bytes] = {}
    size = 0
    for ref in refs:
        raw = lookup(ref)
        if raw is not None and size < ANSWER_BYTES:
            found[ref] = raw
            size += len(raw)
    asked = len(found)
    lowest = max((ref.round for ref in found), default=0) - PUSHED_ROUNDS
    tried = set(found)
    layer = sorted(found, reverse=True)
    while layer and size < ANSWER_BYTES and len(found) < asked + MAX_PUSHED:
        parents = {
            parent
            for ref in layer
            for parent in decode_vertex(found[ref], parameters).parents
            if parent.author < len(have) and parent.round > max(have[parent.author], lowest, 0)
        }
        layer = []
        for ref in sorted(parents - tried, reverse=True):
            tried.add(ref)
            raw = lookup(ref)
            if raw is not None and size < ANSWER_BYTES and len(found) < asked + MAX_PUSHED:
                found[ref] = raw
                size += len(raw)
                layer.append(ref)
    return [found[ref] for ref in sorted(found)]
