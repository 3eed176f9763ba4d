"""Cures of the yamux muxer and of noise below it: writes that can't be cut, frames that fit, credit by halves,
reading ahead.
"""

from __future__ import annotations

import struct
from typing import Any

import trio
from libp2p.io.exceptions import IncompleteReadError
from libp2p.security.noise import io as noise_io
from libp2p.stream_muxer.exceptions import MuxedStreamError
from libp2p.stream_muxer.yamux import yamux

from mpisa.network.libp2p_host.replacing import replace

STALLED_WRITE_SECONDS = 10.0
"""A write that makes no progress for this long ends the connection: its bytes can't be taken back."""

ZERO_WINDOW_SECONDS = 10.0
"""How long a writer waits for credit before its stream fails."""

FRAME_BYTES = noise_io.MAX_PLAINTEXT_LENGTH
READ_AHEAD_BYTES = 256 * 1024
_READ_AHEAD = "_mpisa_read_ahead"
_SEND_WINDOW = "_mpisa_send_window"
_CREDIT = "_mpisa_credit"


def shield_writes() -> None:
    """A frame is encrypted, then written: once its nonce is used it must reach the peer whole, whoever lost interest
    in it.
    """

    async def write_frame(self: Any, data: bytes) -> None:
        async with self._write_lock:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STALLED_WRITE_SECONDS) as scope:
                await self.secured_conn.write(data)
            if scope.cancelled_caught:
                self.event_shutting_down.set()
                await self.secured_conn.close()
                raise MuxedStreamError(f"a write stalled for {STALLED_WRITE_SECONDS} s")
        await trio.lowlevel.checkpoint_if_cancelled()

    replace(yamux.Yamux, "_write_frame", write_frame)


def fit_frames() -> None:
    """64 KiB and a header spill a few bytes into a second noise packet: two encryptions, two writes, two reads."""
    replace(yamux, "MAX_MESSAGE_SIZE", FRAME_BYTES)


def return_credit_by_halves() -> None:
    """Readers send a window update when half the window is used up, as go-yamux does; writers wait for one on an event.

    The window becomes a property, so that wherever the library adds credit, a waiting writer wakes.
    """

    async def return_credit(self: Any, *, bytes_read: int = 0) -> None:
        buffered = len(self.conn.stream_buffers.get(self.stream_id, b""))
        used = self.target_recv_window - (self.recv_window + buffered)
        if used < self.target_recv_window // 2 or used <= 0 or self.recv_closed:
            return
        self.recv_window += used
        await self.send_window_update(used + self._apply_autotune_epoch(buffered))

    def get_window(self: Any) -> int:
        return int(self.__dict__.get(_SEND_WINDOW, 0))

    def set_window(self: Any, value: int) -> None:
        self.__dict__[_SEND_WINDOW] = value
        credit = self.__dict__.get(_CREDIT)
        if credit is not None and value > 0:
            credit.set()

    replace(yamux.YamuxStream, "_auto_tune_and_send_window_update", return_credit)
    replace(yamux.YamuxStream, "write", _write_stream)
    yamux.YamuxStream.send_window = property(get_window, set_window)  # type: ignore[assignment]


async def _write_stream(self: Any, data: bytes) -> None:
    view = memoryview(data)
    position = 0
    while position < len(view):
        await _wait_for_credit(self)
        size = min(self.send_window, yamux.MAX_MESSAGE_SIZE - yamux.HEADER_SIZE, len(view) - position)
        self.send_window -= size
        header = struct.pack(yamux.YAMUX_HEADER_FORMAT, 0, yamux.TYPE_DATA, 0, self.stream_id, size)
        await self.conn._write_frame(header + view[position : position + size])
        position += size


async def _wait_for_credit(stream: Any) -> None:
    """Returns when a byte may be sent. Raises MuxedStreamError when the stream is closed or no credit comes."""
    deadline = trio.current_time() + ZERO_WINDOW_SECONDS
    while True:
        if stream.send_closed or stream.closed or stream.conn.event_shutting_down.is_set():
            raise MuxedStreamError("Stream is closed for sending")
        if stream.send_window > 0:
            return
        if trio.current_time() >= deadline:
            raise MuxedStreamError(f"no window update within {ZERO_WINDOW_SECONDS} s")
        credit = stream.__dict__[_CREDIT] = trio.Event()
        with trio.move_on_after(1.0):  # closing sets flags, not this event
            await credit.wait()


def read_ahead() -> None:
    """One system call reads as many packets as have arrived. What is left over stays with the raw connection, for the
    reader of the handshake isn't the reader of what follows.
    """

    async def fill(self: Any, count: int) -> bytearray:
        connection = self.read_write_closer
        buffer: bytearray | None = connection.__dict__.get(_READ_AHEAD)
        if buffer is None:
            buffer = connection.__dict__[_READ_AHEAD] = bytearray()
        while len(buffer) < count:
            chunk = await connection.read(READ_AHEAD_BYTES)
            if not chunk:
                raise IncompleteReadError("connection closed", expected_bytes=count, received_bytes=len(buffer))
            buffer += chunk
        return buffer

    async def read_packet(self: Any) -> bytes:
        buffer = await fill(self, noise_io.SIZE_NOISE_MESSAGE_LEN)
        end = noise_io.SIZE_NOISE_MESSAGE_LEN + int.from_bytes(buffer[: noise_io.SIZE_NOISE_MESSAGE_LEN], "big")
        buffer = await fill(self, end)
        with memoryview(buffer) as view:
            packet = bytes(view[noise_io.SIZE_NOISE_MESSAGE_LEN : end])
        del buffer[:end]
        return packet

    replace(noise_io.NoisePacketReadWriter, "read_msg", read_packet)
