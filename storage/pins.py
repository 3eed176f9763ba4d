"""Pins: which roots this node means to keep, and why. Durable, in a LevelDB of their own beside the index.

A pin is one of a CID, a kind and a reason; pinning again only changes its name. Unlike the index, pins can't be made
again from anything, so every change is synced before it returns.
"""

import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mpisa.primitives.cid import Cid
from mpisa.primitives.codec import decode, encode, expect_bytes, expect_str, expect_tuple
from mpisa.primitives.errors import NotFound, Rejection, StoreDamaged, UsageError
from storage.leveldb import REPAIR_HINT, Database, salvage

MAX_PIN_NAME_BYTES = 256
MAX_PIN_BYTES = 1024
MAX_RECENT_PINS = 1024
"""So many are remembered for a collection that is under way."""

_PIN = b"p"


class PinKind(StrEnum):
    """Whether a pin keeps all that the block links to, or the block alone."""

    RECURSIVE = "recursive"
    DIRECT = "direct"


class PinReason(StrEnum):
    """Who wants it kept."""

    USER = "user"
    PUBLISH = "publish"
    CUSTODY = "custody"


@dataclass(frozen=True, slots=True)
class Pin:
    """One pin; the name is for people and may be empty."""

    cid: Cid
    kind: PinKind
    reason: PinReason
    name: str


class PinStore:
    """All pins of a node; thread-safe. Raises StoreDamaged, StoreBusy or DiskFull."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, "pins")
        self._changes = 0
        self._recent: deque[Pin] = deque(maxlen=MAX_RECENT_PINS)
        self._lock = threading.Lock()

    @property
    def changes(self) -> int:
        """How often pins were set since opening, counted before `pin` returns: who has seen it all has marked all."""
        return self._changes

    def set_since(self, changes: int) -> tuple[int, tuple[Pin, ...] | None]:
        """How often pins were set by now, and those set since it was `changes`: None when that is too long ago."""
        with self._lock:
            count = self._changes - changes
            if changes < 0 or count > len(self._recent):
                return self._changes, None
            return self._changes, tuple(self._recent)[len(self._recent) - count :]

    def pin(
        self, cid: Cid, kind: PinKind = PinKind.RECURSIVE, *, name: str = "", reason: PinReason = PinReason.USER
    ) -> Pin:
        """Keep a CID; durable on return. Raises UsageError for a name that is too long."""
        if len(name.encode()) > MAX_PIN_NAME_BYTES:
            raise UsageError(f"the name of a pin has at most {MAX_PIN_NAME_BYTES} bytes")
        pin = Pin(cid, PinKind(kind), PinReason(reason), name)
        value = encode((cid.to_bytes(), pin.kind.value, pin.reason.value, name))
        self._database.write([(_key(cid, pin.kind, pin.reason), value)], sync=True)
        with self._lock:
            self._recent.append(pin)
            self._changes += 1
        return pin

    def unpin(self, cid: Cid, *, kind: PinKind | None = None, reason: PinReason | None = None) -> tuple[Pin, ...]:
        """Remove the pins of a CID (of one kind or reason, when given); those removed. Raises NotFound for none."""
        found = tuple(
            pin
            for pin in self._of(cid)
            if (kind is None or pin.kind is kind) and (reason is None or pin.reason is reason)
        )
        if not found:
            raise NotFound(f"{cid} is not pinned")
        self._database.write([(_key(pin.cid, pin.kind, pin.reason), None) for pin in found], sync=True)
        return found

    def pins_of(self, cid: Cid) -> tuple[Pin, ...]:
        """The pins of one CID."""
        return tuple(self._of(cid))

    def is_pinned(self, cid: Cid) -> bool:
        """Whether the CID itself is pinned; what lies below a recursive pin is not looked for."""
        return next(self._of(cid), None) is not None

    def list(self) -> Iterator[Pin]:
        """All pins, ordered by multihash."""
        for _, value in self._database.scan(_PIN):
            yield self._decode(value)

    def close(self) -> None:
        """Close it; closing twice is harmless."""
        self._database.close()

    def _of(self, cid: Cid) -> Iterator[Pin]:
        for _, value in self._database.scan(_of(cid)):
            yield self._decode(value)

    def _decode(self, value: bytes) -> Pin:
        try:
            return _decode(value)
        except (ValueError, Rejection):
            raise StoreDamaged(f"pins {self._database.path}: an entry can't be read", hint=REPAIR_HINT) from None


def repair_pins(path: Path) -> tuple[tuple[Pin, ...], int]:
    """Rescue the pins of a damaged store that is not open: those kept, and how many entries could not be read.

    LevelDB salvages what its checksums still vouch for; pins whose bytes are gone have to be set again.
    """
    salvage(path)
    database = Database(path, "pins")
    try:
        kept: list[Pin] = []
        unreadable: list[bytes] = []
        for key, value in database.scan(_PIN):
            try:
                kept.append(_decode(value))
            except (ValueError, Rejection):
                unreadable.append(key)
        database.write([(key, None) for key in unreadable], sync=True)
    finally:
        database.close()
    return tuple(kept), len(unreadable)


def _decode(value: bytes) -> Pin:
    """A stored pin. Raises ValueError or Rejection."""
    raw, kind, reason, name = expect_tuple(decode(value, max_bytes=MAX_PIN_BYTES), "pin", length=4)
    return Pin(
        Cid.from_bytes(expect_bytes(raw, "cid")),
        PinKind(expect_str(kind, "kind", 16)),
        PinReason(expect_str(reason, "reason", 16)),
        expect_str(name, "name", MAX_PIN_NAME_BYTES),
    )


def _key(cid: Cid, kind: PinKind, reason: PinReason) -> bytes:
    return _of(cid) + f"{kind.value}\0{reason.value}".encode()


def _of(cid: Cid) -> bytes:
    """What the keys of a CID's pins begin with: CIDv0 and CIDv1 are the same, another codec is another DAG."""
    return _PIN + cid.multihash + f"\0{cid.codec:x}\0".encode()
