"""What a path below a root leads to, with the blocks that prove it; symlinks in its middle are followed."""

from collections.abc import Sequence
from dataclasses import dataclass

from mpisa.primitives.cid import Cid
from mpisa.primitives.path_walk import Target, walk_path
from storage.reader import DagReader


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path leads.

    `path_blocks`: the blocks on the way in the order of the walk, as often as it needs them, without the target's own;
    `roots`: the CID after each name, beginning with the root; `remainder`: names that lead to `value` inside of the
    document `cid`, empty where the path leads to a block as such.
    """

    cid: Cid
    path_blocks: tuple[Cid, ...]
    roots: tuple[Cid, ...]
    remainder: tuple[str, ...] = ()
    value: object | None = None


def resolve(reader: DagReader, root: Cid, parts: Sequence[str], *, follow_symlinks: bool = True) -> Resolved:
    """Follow the names; see `mpisa.primitives.path_walk`. The target's own block isn't read.

    Raises NotFound that names the part, UsageError for too long a path, Rejection, and what the reader raises.
    """
    walk = walk_path(root, parts, follow_symlinks=follow_symlinks)
    blocks: list[Cid] = []
    try:
        wanted = next(walk)
        while True:
            blocks.append(wanted)
            wanted = walk.send(reader.block(wanted))
    except StopIteration as end:
        target: Target = end.value
    if target.remainder and blocks and blocks[-1] == target.cid:
        blocks.pop()
    return Resolved(target.cid, tuple(blocks), target.roots, target.remainder, target.value)
