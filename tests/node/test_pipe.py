"""The pipe between the loop and a worker thread: order, bound, ends, errors."""

from __future__ import annotations

import asyncio

import pytest

from mpisa.node.pipe import BytePipe
from mpisa.primitives.errors import Unreachable


async def test_bytes_come_out_in_order_and_reads_are_whole() -> None:
    loop = asyncio.get_running_loop()
    pipe = BytePipe(loop)
    for piece in (b"abc", b"", b"defgh", b"i"):
        assert await pipe.feed(piece)
    pipe.finish()
    assert pipe.read(4) == b"abcd"
    assert pipe.read(0) == b""
    assert pipe.read(3) == b"efg"
    assert pipe.read(10) == b"hi"
    assert pipe.read(1) == b""


async def test_a_writer_waits_at_the_bound_until_the_reader_made_room() -> None:
    loop = asyncio.get_running_loop()
    pipe = BytePipe(loop, bound=4)
    await pipe.feed(b"abcd")
    blocked = asyncio.create_task(pipe.feed(b"ef"))
    for _ in range(3):
        await asyncio.sleep(0)
    assert not blocked.done()
    assert await loop.run_in_executor(None, pipe.read, 2) == b"ab"
    assert await blocked
    pipe.finish()
    assert await loop.run_in_executor(None, pipe.read, -1) == b"cdef"


async def test_a_writer_is_let_go_when_the_reader_has_gone() -> None:
    pipe = BytePipe(asyncio.get_running_loop(), bound=1)
    await pipe.feed(b"a")
    blocked = asyncio.create_task(pipe.feed(b"b"))
    await asyncio.sleep(0)
    pipe.close_reader()
    assert await blocked is False
    assert await pipe.feed(b"c") is False


async def test_an_abort_reaches_a_reader_that_waits() -> None:
    loop = asyncio.get_running_loop()
    pipe = BytePipe(loop)
    reading = loop.run_in_executor(None, pipe.read, 10)
    pipe.abort(Unreachable("gone"))
    with pytest.raises(Unreachable, match="gone"):
        await reading
