"""What travels on the peer port beside plain blocks: wants and batches, error answers, coalesced frames. Pure
encodings, all bounded.
"""

from __future__ import annotations

import json
import re
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from mpisa.network.ports import BlockSource
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason, Unreachable

RAW_TYPE = "application/vnd.ipld.raw"
MAX_CID_TEXT = 128
MAX_BATCH_BYTES = 4 << 20
"""A batched answer ends after the block that makes it larger than this, less one block."""

LARGE_PIECE = 64 << 10
MAX_PROBLEM_BYTES = 4096
MAX_DETAIL = 1000
ABSENT = 0xFFFFFFFF
_LENGTH = struct.Struct(">I")
_KIND = re.compile(r"[a-z][a-z0-9-]{0,39}")
GARBAGE = frozenset(
    {
        RejectionReason.BAD_CID,
        RejectionReason.MALFORMED,
        RejectionReason.NOT_CANONICAL,
        RejectionReason.TOO_DEEP,
        RejectionReason.TOO_LARGE,
    }
)
"""Reasons that an honest peer never gives cause for: they end the connection."""


def validate_kind(kind: str) -> None:
    assert _KIND.fullmatch(kind), f"a request kind is lower-case letters, digits and dashes, not {kind!r}"


def encode_wants(cids: Iterable[Cid]) -> bytes:
    return "\n".join(str(cid) for cid in cids).encode()


def decode_wants(body: bytes, max_count: int) -> list[Cid]:
    """CIDs, one a line. Raises Rejection(MALFORMED | TOO_LARGE)."""
    if len(body) > max_count * (MAX_CID_TEXT + 1):
        raise Rejection(RejectionReason.TOO_LARGE, f"wants, expected at most {max_count} CIDs, got {len(body)} bytes")
    try:
        lines = body.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise Rejection(RejectionReason.MALFORMED, "wants, expected one CID a line") from error
    if len(lines) > max_count:
        raise Rejection(RejectionReason.TOO_LARGE, f"wants, expected at most {max_count} CIDs, got {len(lines)}")
    return [Cid.parse(line) for line in lines]


def collect_blocks(source: BlockSource, cids: Sequence[Cid]) -> tuple[list[bytes], int]:
    """The batched answer in pieces, and how many blocks it holds: for each CID its length (or ABSENT) and bytes, in
    order. Small pieces are joined, large ones are the blocks themselves.
    """
    parts: list[bytes] = []
    total = count = 0
    for cid in cids:
        data = source.get(cid)
        if data is None:
            parts.append(_LENGTH.pack(ABSENT))
            continue
        if total and total + len(data) > MAX_BATCH_BYTES:
            break
        parts += (_LENGTH.pack(len(data)), data)
        total += len(data)
        count += 1
    return list(_joined(parts)), count


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    small: list[bytes] = []
    for part in parts:
        if len(part) < LARGE_PIECE:
            small.append(part)
            continue
        if small:
            yield b"".join(small)
            small = []
        yield part
    if small:
        yield b"".join(small)


class _Chunks:
    """Bytes that came in pieces, taken from the front; each is copied once."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = deque(memoryview(chunk) for chunk in chunks if chunk)
        self.left = sum(len(chunk) for chunk in self._chunks)

    def take(self, count: int) -> bytes:
        taken: list[memoryview] = []
        self.left -= count
        while count:
            chunk = self._chunks.popleft()
            if len(chunk) > count:
                self._chunks.appendleft(chunk[count:])
                chunk = chunk[:count]
            taken.append(chunk)
            count -= len(chunk)
        return b"".join(taken)


def decode_blocks(answer: Iterable[bytes], asked: int) -> tuple[bytes | None, ...]:
    """Inverse of `collect_blocks`, from the answer's pieces as they came. Raises Rejection(MALFORMED) for more blocks
    than asked, or a cut one.
    """
    blocks: list[bytes | None] = []
    chunks = _Chunks(answer)
    while chunks.left:
        if len(blocks) >= asked or chunks.left < _LENGTH.size:
            raise Rejection(RejectionReason.MALFORMED, f"batch, expected at most {asked} blocks")
        (length,) = _LENGTH.unpack(chunks.take(_LENGTH.size))
        if length == ABSENT:
            blocks.append(None)
            continue
        if length > chunks.left:
            raise Rejection(RejectionReason.MALFORMED, f"batch, block {len(blocks)} is cut")
        blocks.append(chunks.take(length))
    return tuple(blocks)


def pack_frames(frames: Iterable[bytes]) -> bytes:
    """One message out of several frames, each behind its length."""
    parts: list[bytes] = []
    for frame in frames:
        parts += (_LENGTH.pack(len(frame)), frame)
    return b"".join(parts)


def unpack_frames(message: bytes, max_frame: int) -> Iterator[bytes]:
    """Inverse of `pack_frames`. Raises Rejection(MALFORMED | TOO_LARGE)."""
    position = 0
    while position < len(message):
        if position + 4 > len(message):
            raise Rejection(RejectionReason.MALFORMED, "frame, its length is cut")
        (length,) = _LENGTH.unpack_from(message, position)
        position += 4
        if length > max_frame:
            raise Rejection(RejectionReason.TOO_LARGE, f"frame, expected at most {max_frame} bytes, got {length}")
        if position + length > len(message):
            raise Rejection(RejectionReason.MALFORMED, f"frame, expected {length} bytes, got {len(message) - position}")
        yield message[position : position + length]
        position += length


def encode_problem(error: MpisaError) -> bytes:
    reason = error.reason.value if isinstance(error, Rejection) else None
    detail = error.detail if isinstance(error, Rejection) else error.message
    return json.dumps({"code": error.code, "reason": reason, "detail": detail[:MAX_DETAIL]}).encode()


def decode_problem(status: int, body: bytes, peer: str) -> MpisaError:
    """The error with which a peer answered, never trusting its shape."""
    try:
        problem = json.loads(body[:MAX_PROBLEM_BYTES])
        detail = str(problem["detail"])[:MAX_DETAIL]
        reason = problem["reason"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return Unreachable(f"{peer} answered {status}")
    if status == 404:
        return NotFound(detail)
    if reason is not None:
        try:
            return Rejection(RejectionReason(reason), detail)
        except ValueError:
            return Unreachable(f"{peer} answered {status}: {detail}")
    return Unreachable(f"{peer} answered {status}: {detail}")
