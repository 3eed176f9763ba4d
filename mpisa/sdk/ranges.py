"""A range of a file: only the blocks that hold it are fetched, and every one of them is hashed."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Final

from mpisa.primitives.car_stream import FileBytes, FileEnded, FileStarted
from mpisa.primitives.errors import IntegrityError, Rejection, UsageError
from mpisa.primitives.file_range import FileRange
from mpisa.primitives.selection import MAX_OFFSET, ByteRange
from mpisa.primitives.unixfs_tree import FileContent, read_block
from mpisa.sdk.blocks import NodeBlocks

if TYPE_CHECKING:
    from mpisa.primitives.cid import Cid
    from mpisa.sdk.async_client import Progress
    from mpisa.sdk.sinks import Sink
    from mpisa.sdk.transport import Transport

_RANGE: Final = re.compile(r"([0-9]{0,19})-([0-9]{0,19})", re.ASCII)


def parse_range(text: str) -> ByteRange:
    """FIRST-LAST (both included, from 0), FIRST- or -COUNT (the last bytes), as HTTP has them. Raises UsageError."""
    found = _RANGE.fullmatch(text)
    if found is None or found[0] == "-":
        raise UsageError(f"range {text[:60]!r}: expected FIRST-LAST, FIRST- or -COUNT", hint="for example 0-1023")
    first, last = (int(part) if part else None for part in found.groups())
    if max(first or 0, last or 0) > MAX_OFFSET:
        raise UsageError(f"range {text!r} goes beyond {MAX_OFFSET}")
    if first is None:
        if not last:
            raise UsageError(f"range {text!r} is empty")
        return ByteRange(-last, None)
    if last is not None and last < first:
        raise UsageError(f"range {text!r} ends before it begins")
    return ByteRange(first, last)


async def get_range(
    transport: Transport, cid: Cid, span: ByteRange, sink: Sink, progress: Progress | None
) -> tuple[int, int]:
    """Write a file's range to a sink; bytes and blocks. Raises UsageError when it is no file or lies outside of it."""
    async with NodeBlocks(transport) as blocks:
        content = _file(cid, await blocks.get(cid))
        start, end = span.clamp(content.size)
        if start == end:
            raise UsageError(f"no byte of the range lies in {cid}, which has {content.size}")
        machine = FileRange(content, start, end)
        done, count = 0, 1
        sink.take(FileStarted((), end - start))
        data = machine.first
        while True:
            if data:
                await asyncio.to_thread(sink.take, FileBytes(data))
                done += len(data)
                if progress is not None:
                    progress(done, end - start)
            wanted = machine.wanted
            if wanted is None:
                break
            blocks.expect(machine.ahead())
            block = await blocks.get(wanted)
            count += 1
            try:
                data = machine.take(block)
            except Rejection as error:
                raise IntegrityError(error.detail) from None
        if done != end - start:
            raise IntegrityError(f"the range of {cid} came out {done} bytes long, expected {end - start}")
        sink.take(FileEnded(()))
    return done, count


def _file(cid: Cid, block: bytes) -> FileContent:
    try:
        content = read_block(cid, block)
    except Rejection as error:
        raise IntegrityError(f"block {cid}: {error.detail}") from None
    if not isinstance(content, FileContent):
        raise UsageError(f"{cid} is not a file, so it has no range of bytes", hint=f"see: mpisa blob ls {cid}")
    return content
