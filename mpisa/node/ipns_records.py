"""IPNS records that this node keeps, one file a name: HOME/ipns/NAME.ipns-record.

A record comes from whoever has this node's token, and counts by its owner's signature alone: it is checked when it
comes and again each time it is read, for it may have run out since. One that another supersedes is refused. Nothing is
looked up elsewhere, and nothing is published: the DHT of this network keeps no values.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Final

from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, StoreDamaged
from mpisa.primitives.ipns import MAX_RECORD_BYTES, IpnsRecord, decode_record, name_text, verify_record
from storage.files import disk_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mpisa.primitives.cid import Cid

MAX_RECORDS: Final = 10_000
SUFFIX: Final = ".ipns-record"


def _now_ms() -> int:
    return int(time.time() * 1000)


class IpnsRecords:
    """See the module. `clock` gives ms since 1970."""

    def __init__(self, directory: Path, clock: Callable[[], int] = _now_ms) -> None:
        self._directory = directory
        self._clock = clock
        self._writing = asyncio.Lock()

    async def get(self, name: Cid) -> IpnsRecord:
        """The record of a name, valid now. Raises NotFound; Rejection for one that isn't valid any more;
        StoreDamaged."""
        raw = await asyncio.to_thread(self._read, name)
        if raw is None:
            raise NotFound(f"this node keeps no record of {name_text(name)}")
        record = decode_record(raw)
        verify_record(name, record, self._clock())
        return record

    async def put(self, name: Cid, raw: bytes) -> IpnsRecord:
        """Keep a record, durably on return; the same one again changes nothing.

        Raises Rejection: as decode_record and verify_record, REPLAYED when a later one is here, TOO_MANY. DiskFull.
        """
        record = decode_record(raw)
        verify_record(name, record, self._clock())
        async with self._writing:
            await asyncio.to_thread(self._replace, name, record)
        return record

    def _file(self, name: Cid) -> Path:
        return self._directory / (name_text(name) + SUFFIX)

    def _read(self, name: Cid) -> bytes | None:
        try:
            with self._file(name).open("rb") as file:
                return file.read(MAX_RECORD_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreDamaged(f"can't read the IPNS record of {name_text(name)}: {error.strerror or error}") from error

    def _replace(self, name: Cid, record: IpnsRecord) -> None:
        held = self._read(name)
        if held == record.raw:
            return
        if held is not None:
            self._check_newer(name, record, held)
        try:
            self._directory.mkdir(exist_ok=True)
            if held is None and sum(1 for _ in self._directory.iterdir()) >= MAX_RECORDS:
                raise Rejection(RejectionReason.TOO_MANY, f"this node keeps at most {MAX_RECORDS} IPNS records")
            self._write(name, record.raw)
        except OSError as error:
            raise disk_error(error, self._directory) from error

    def _check_newer(self, name: Cid, record: IpnsRecord, held: bytes) -> None:
        try:
            other = decode_record(held)
        except Rejection:
            return  # what can't be read is no reason to refuse
        if other.supersedes(record):
            raise Rejection(
                RejectionReason.REPLAYED,
                f"IPNS record of {name_text(name)}: sequence {record.sequence} until {record.validity}, "
                f"held is {other.sequence} until {other.validity}",
            )

    def _write(self, name: Cid, raw: bytes) -> None:
        target = self._file(name)
        temporary = target.with_name(target.name + ".new")
        with temporary.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        descriptor = os.open(self._directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
