"""Headers by height, in the chain store's database; those read or written last are kept decoded, with their hashes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.chain_records import HEADER, number
from mpisa.node.state_map import RECENT_HEIGHTS
from mpisa.primitives.header import Header, decode_header, header_hash

if TYPE_CHECKING:
    from mpisa.node.database import Database


class HeaderCache:
    """See the module. RECENT_HEIGHTS are kept."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._headers: dict[int, Header] = {}
        self._hashes: dict[int, bytes] = {}

    def __len__(self) -> int:
        """How many are kept decoded."""
        return len(self._headers)

    def get(self, height: int) -> Header | None:
        """None where the database has none."""
        cached = self._headers.get(height)
        if cached is not None:
            return cached
        raw = self.raw(height)
        if raw is None:
            return None
        header = decode_header(raw)
        self.remember(height, header)
        return header

    def raw(self, height: int) -> bytes | None:
        """The bytes as the disk has them now; for any thread."""
        return self._db.get(HEADER + number(height)) if 0 <= height < 1 << 63 else None

    def hash_of(self, height: int, header: Header) -> bytes:
        """The hash of the header at this height, without computing it again where it is kept."""
        return self._hashes.get(height) or header_hash(header)

    def remember(self, height: int, header: Header) -> None:
        """A header that was stored now, or read."""
        if len(self._headers) >= RECENT_HEIGHTS:
            oldest = next(iter(self._headers))
            self._headers.pop(oldest, None)
            self._hashes.pop(oldest, None)
        self._headers[height] = header
        self._hashes[height] = header_hash(header)

    def forget(self, through: int) -> None:
        """Those up to this height but for genesis: they were pruned."""
        for height in [height for height in list(self._headers) if 0 < height <= through]:
            self._headers.pop(height, None)
            self._hashes.pop(height, None)
