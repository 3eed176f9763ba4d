"""Which blocks of a file hold a range of its bytes, in order, and the bytes themselves: for readers and for verifiers.

The file's root block comes first; whoever drives this asks for `wanted`, gets that block from anywhere, and hands it to
`take`. Sizes that nodes claim are checked against what lies below. Memory: the links still to come.
"""

from mpisa.primitives.ahead import AHEAD, Ahead
from mpisa.primitives.car_stream import MAX_FILE_DEPTH, MAX_PENDING_LINKS
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, Rejection, RejectionReason
from mpisa.primitives.unixfs_tree import FileContent, FilePart, read_block


class FileRange:
    """The bytes `start` to `end` (half open) of a file, whose root block says `content`; `first` are the root's own.

    `every_part`: also parts without bytes, as a complete CAR stream has them; then the range is the whole file.
    """

    def __init__(self, content: FileContent, start: int, end: int, *, every_part: bool = False) -> None:
        assert 0 <= start <= end <= content.size, (start, end, content.size)
        self._start, self._end = start, end
        self._every_part = every_part
        self._stack: list[tuple[FilePart, int, int]] = []
        self._ahead = Ahead()
        self.first = self._open(content, 0, 0)

    @property
    def wanted(self) -> Cid | None:
        """The block that has to come next; None at the end."""
        return self._stack[-1][0].cid if self._stack else None

    def ahead(self) -> list[Cid]:
        """CIDs that will be wanted soon and weren't named yet, the next one first, at most AHEAD."""
        if not self._ahead.due:
            return []
        return self._ahead.names([part.cid for part, _, _ in reversed(self._stack[-AHEAD:])])

    def take(self, block: bytes) -> bytes:
        """The wanted block; its bytes within the range. Raises IntegrityError or Rejection that names the block."""
        part, position, depth = self._stack.pop()
        self._ahead.moved(part.cid)
        if depth > MAX_FILE_DEPTH:
            raise Rejection(RejectionReason.TOO_DEEP, f"block {part.cid} lies more than {MAX_FILE_DEPTH} levels deep")
        try:
            content = read_block(part.cid, block)
        except Rejection as error:
            raise Rejection(error.reason, f"block {part.cid}: {error.detail}") from None
        if not isinstance(content, FileContent):
            raise IntegrityError(f"block {part.cid} is part of a file, but holds no file")
        if content.size != part.size:
            raise IntegrityError(
                f"block {part.cid} holds {content.size} bytes of a file, its parent claims {part.size}"
            )
        return self._open(content, position, depth)

    def _open(self, content: FileContent, position: int, depth: int) -> bytes:
        data = content.data
        first, last = max(self._start - position, 0), min(self._end - position, len(data))
        position += len(data)
        following: list[tuple[FilePart, int, int]] = []
        for part in content.parts:
            if self._every_part or (position < self._end and position + part.size > self._start):
                following.append((part, position, depth + 1))
            position += part.size
        if following:
            if len(self._stack) + len(following) > MAX_PENDING_LINKS:
                raise Rejection(RejectionReason.TOO_LARGE, f"more than {MAX_PENDING_LINKS} parts of a file at once")
            self._stack += reversed(following)
            self._ahead.grew()
        if first >= last:
            return b""
        return data if last - first == len(data) else data[first:last]
