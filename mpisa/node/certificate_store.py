"""Certificates by height, in the chain store's database: which are here, and up to where all of them are.

They come in any order, from this node's own engine and from peers, and aren't synced: peers have them too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.chain_records import CERTIFICATE, COMPLETE, number
from mpisa.node.database import prefix_end
from mpisa.primitives.header import Certificate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mpisa.node.database import Database


class CertificateStore:
    """`highest` is the latest height with a certificate, `complete` that up to which none is missing; 0 for none."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self.highest = 0
        self.complete = 0

    def load(self) -> None:
        """Finds out what is here."""
        newest = self._db.range(CERTIFICATE, prefix_end(CERTIFICATE), limit=1, reverse=True)
        self.highest = int.from_bytes(newest[0][0][1:], "big") if newest else 0
        self.complete = int.from_bytes(self._db.get(COMPLETE) or b"", "big")
        self._extend_complete()

    def get(self, height: int) -> Certificate | None:
        """None where it isn't here."""
        raw = self._db.get(CERTIFICATE + number(height))
        return None if raw is None else Certificate.decode(raw)

    def raw(self, height: int) -> bytes:
        """The certificate's bytes, empty where there is none; for any thread."""
        return self._db.get(CERTIFICATE + number(height)) or b""

    def missing(self, through: int) -> Iterator[int]:
        """Heights up to this one without a certificate of their own, lowest first."""
        for height in range(self.complete + 1, through + 1):
            if self._db.get(CERTIFICATE + number(height)) is None:
                yield height

    def add(self, height: int, certificate: Certificate) -> bool:
        """Keeps the first certificate of a height; False when there is one already."""
        key = CERTIFICATE + number(height)
        if self._db.get(key) is not None:
            return False
        self._db.write([(key, certificate.encode())], sync=False)
        self.highest = max(self.highest, height)
        self._extend_complete()
        return True

    def pruned(self, through: int) -> None:
        """What is gone up to this height isn't missing."""
        self.complete = max(self.complete, through)

    def _extend_complete(self) -> None:
        while self.complete < self.highest and self._db.get(CERTIFICATE + number(self.complete + 1)) is not None:
            self.complete += 1
