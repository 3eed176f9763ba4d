"""A halt that outlives the process: why, when, and what was seen, beside the stores (docs/protocol.md, section 6).

A node halts when a quorum assumption is broken or it disagrees with a quorum. It then signs, orders and executes
nothing, serves what it has, and stays so through restarts, for whatever it did next could not be taken back: its
operator finds out with the others what happened. What was seen first is kept; later halts of the same home add nothing.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from mpisa.primitives.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RECORD_NAME = "halt.json"
EVIDENCE_NAME = "halt-evidence.bin"
MAX_RECORD_BYTES = 1 << 16
NEXT = "keep its home as it is and compare with the other operators"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class HaltRecord:
    """Why a node halted, at what time (ms since 1970), and where the evidence is, if there is any."""

    reason: str
    time_ms: int
    evidence: str | None

    def advice(self, home: Path) -> str:
        """What its operator does next."""
        seen = "" if self.evidence is None else f"; {home / self.evidence} holds what it saw"
        return f"{NEXT}{seen}; to let it go on, stop it and delete {home / RECORD_NAME}"


def read_halt(home: Path) -> HaltRecord | None:
    """The record of a home, None where its node hasn't halted. Raises InvalidConfig for one that can't be read."""
    file = home / RECORD_NAME
    try:
        with file.open("rb") as stream:
            fields = json.loads(stream.read(MAX_RECORD_BYTES))
        return HaltRecord(str(fields["reason"]), int(fields["time_ms"]), fields["evidence"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidConfig(
            f"{file}: not a record of a halt: {error}", hint=f"this node halted: {NEXT}; then delete the file"
        ) from None


def write_halt(home: Path, reason: str, time_ms: int, evidence: bytes) -> HaltRecord:
    """Keeps the halt, evidence first, both on the disk on return; the earlier one where there is one already.

    Raises OSError.
    """
    earlier = read_halt(home)
    if earlier is not None:
        return earlier
    record = HaltRecord(reason, time_ms, EVIDENCE_NAME if evidence else None)
    if evidence:
        _write(home / EVIDENCE_NAME, evidence)
    text = {"reason": reason, "time_ms": time_ms, "evidence": record.evidence, "next": record.advice(home)}
    _write(home / RECORD_NAME, (json.dumps(text, indent=2) + "\n").encode())
    return record


class Halts:
    """Whether this node has halted, before this start or since."""

    def __init__(self, home: Path, now_ms: Callable[[], int]) -> None:
        """Raises InvalidConfig for a record that can't be read."""
        self._home = home
        self._now_ms = now_ms
        self.record = read_halt(home)

    @property
    def reason(self) -> str | None:
        """Why, None while it goes on."""
        return None if self.record is None else self.record.reason

    @property
    def advice(self) -> str:
        """What its operator does next; empty while it goes on."""
        return "" if self.record is None else self.record.advice(self._home)

    def note(self, reason: str, evidence: bytes = b"") -> None:
        """It halts now, for good. Where the disk takes nothing it halts all the same."""
        if self.record is not None:
            return
        try:
            self.record = write_halt(self._home, reason, self._now_ms(), evidence)
        except OSError as error:
            log.error("the halt couldn't be written down", error=str(error), evidence=evidence.hex())
            self.record = HaltRecord(reason, self._now_ms(), None)


def _write(file: Path, data: bytes) -> None:
    """Whole or not at all."""
    draft = file.with_name(file.name + ".new")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    descriptor = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
