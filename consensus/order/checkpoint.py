"""Where the sequence of commits stands: all that the next commit needs, and its bytes (docs/protocol.md, section 7).

A checkpoint is bounded by the committee's size. Which vertices of the window are committed isn't listed in it: they are
the ancestors of the last leaders (any leader a wave below the last one is an ancestor of it). The window root proves
them, and all else that the next commit depends on, equal: one that comes from a stranger is checked against the window
root of a certified header.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from consensus.dag.vertex import MAX_HEIGHT, MAX_ROUND, MAX_TIMESTAMP_MS, VertexRef
from consensus.order.conduct import Conduct, Record, conduct_root
from consensus.parameters import MAX_AUTHORITIES, WAVE_ROUNDS
from mpisa.primitives import codec
from mpisa.primitives.digest import DIGEST_BYTES, tagged
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height, Round

MAX_CURSOR_BYTES: Final = 1 << 20
MAX_COMMIT_INDEX: Final = (1 << 53) - 1
MAX_POINTS: Final = (1 << 53) - 1
_VERSION: Final = 2
_FIELDS: Final = 12


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State behind commit `index`: the leaders are the last commit's and those less than a wave below it.

    `slot` is the last slot of the leader's round that is settled: the leader's own, or the round's last where the
    commit changed the schedule.
    """

    epoch: Epoch
    index: int
    leaders: tuple[VertexRef, ...]
    slot: int
    time_ms: int
    digest: bytes
    window_root: bytes
    height: Height
    block_index: int
    block_time_ms: int
    conduct: Conduct = ()

    @property
    def leader(self) -> VertexRef | None:
        """The last commit's leader, None before the first commit."""
        return self.leaders[-1] if self.leaders else None

    def gc_round(self, depth: int) -> Round:
        """The round that the NEXT commit orders nothing at or below; 0 before the second commit."""
        return Round(max(0, self.leaders[-1].round - depth)) if self.leaders else Round(0)

    def keep_leaders(self, leader: VertexRef) -> tuple[VertexRef, ...]:
        """The leaders to keep once this one is the last."""
        return (*(ref for ref in self.leaders if ref.round > leader.round - WAVE_ROUNDS), leader)


def next_commit(
    before: Checkpoint, leader: VertexRef, slot: int, time_ms: int, digest: bytes, conduct: Conduct
) -> Checkpoint:
    """Behind the commit of this leader; whether it closes a block is for the caller to say."""
    return replace(
        before,
        index=before.index + 1,
        leaders=before.keep_leaders(leader),
        slot=slot,
        time_ms=time_ms,
        digest=digest,
        conduct=conduct,
    )


def close_block(checkpoint: Checkpoint, root: bytes) -> Checkpoint:
    """The checkpoint's commit closes the next chain block, with this window root."""
    return replace(
        checkpoint,
        window_root=root,
        height=Height(checkpoint.height + 1),
        block_index=checkpoint.index,
        block_time_ms=checkpoint.time_ms,
    )


def encode_cursor(checkpoint: Checkpoint) -> bytes:
    """The checkpoint's one encoding."""
    return codec.encode(
        (
            _VERSION,
            checkpoint.epoch,
            checkpoint.index,
            tuple((ref.round, ref.author, ref.id) for ref in checkpoint.leaders),
            checkpoint.slot,
            checkpoint.time_ms,
            checkpoint.digest,
            checkpoint.window_root,
            checkpoint.height,
            checkpoint.block_index,
            checkpoint.block_time_ms,
            encode_conduct(checkpoint.conduct),
        )
    )


def window_root(checkpoint: Checkpoint, identifiers: Iterable[bytes]) -> bytes:
    """A digest of all that the next commit depends on: the checkpoint, and the ids of the vertices committed above its
    GC round (in any order).
    """
    leader = checkpoint.leader
    assert leader is not None, "there is a window behind a commit"
    numbers = (leader.round, checkpoint.slot, checkpoint.index, checkpoint.time_ms)
    return tagged(
        "window",
        b"".join(number.to_bytes(8, "big") for number in numbers),
        checkpoint.digest,
        conduct_root(checkpoint.conduct),
        *sorted(identifiers),
    )


def decode_cursor(raw: bytes) -> Checkpoint:
    """The checkpoint of these bytes. Raises Rejection naming the field."""
    items = codec.expect_tuple(codec.decode(raw, max_bytes=MAX_CURSOR_BYTES, max_depth=3), "cursor", length=_FIELDS)
    codec.expect_int(items[0], "cursor.version", _VERSION, _VERSION)
    leaders = codec.expect_tuple(items[3], "cursor.leaders", WAVE_ROUNDS * MAX_AUTHORITIES)
    return Checkpoint(
        epoch=Epoch(codec.expect_int(items[1], "cursor.epoch", 0, MAX_HEIGHT)),
        index=codec.expect_int(items[2], "cursor.index", 0, MAX_COMMIT_INDEX),
        leaders=tuple(_decode_leader(item, f"cursor.leaders[{position}]") for position, item in enumerate(leaders)),
        slot=codec.expect_int(items[4], "cursor.slot", 0, MAX_AUTHORITIES),
        time_ms=codec.expect_int(items[5], "cursor.time_ms", 0, MAX_TIMESTAMP_MS),
        digest=codec.expect_bytes(items[6], "cursor.digest", length=DIGEST_BYTES),
        window_root=codec.expect_bytes(items[7], "cursor.window_root", length=DIGEST_BYTES),
        height=Height(codec.expect_int(items[8], "cursor.height", 0, MAX_HEIGHT)),
        block_index=codec.expect_int(items[9], "cursor.block_index", 0, MAX_COMMIT_INDEX),
        block_time_ms=codec.expect_int(items[10], "cursor.block_time_ms", 0, MAX_TIMESTAMP_MS),
        conduct=decode_conduct(items[11], "cursor.conduct"),
    )


def encode_conduct(conduct: Conduct) -> codec.Value:
    """The conduct as a value of the codec."""
    return tuple(tuple(record) for record in conduct)


def decode_conduct(value: codec.Value, name: str) -> Conduct:
    """The conduct in a decoded value. Raises Rejection naming the field."""
    conduct: list[Record] = []
    for position, item in enumerate(codec.expect_tuple(value, name, MAX_AUTHORITIES)):
        author, points, until = codec.expect_tuple(item, f"{name}[{position}]", length=3)
        lowest = conduct[-1].author + 1 if conduct else 0
        conduct.append(
            Record(
                codec.expect_int(author, f"{name}[{position}].author", lowest, MAX_AUTHORITIES - 1),
                codec.expect_int(points, f"{name}[{position}].points", 0, MAX_POINTS),
                codec.expect_int(until, f"{name}[{position}].until", 0, MAX_COMMIT_INDEX),
            )
        )
    return tuple(conduct)


def _decode_leader(value: codec.Value, name: str) -> VertexRef:
    items = codec.expect_tuple(value, name, length=3)
    return VertexRef(
        Round(codec.expect_int(items[0], f"{name}.round", 1, MAX_ROUND)),
        AuthorityIndex(codec.expect_int(items[1], f"{name}.author", 0, MAX_AUTHORITIES - 1)),
        codec.expect_bytes(items[2], f"{name}.id", length=DIGEST_BYTES),
    )
