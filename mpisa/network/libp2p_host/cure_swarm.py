"""Cures of libp2p.network.swarm: inbound slots that never come back, a pause after a dial that succeeded, connections
that are forgotten while they live.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import trio
from libp2p.network import swarm
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.rcmgr import Direction
from libp2p.security.pnet import psk_conn

from mpisa.network.libp2p_host.replacing import replace

DIAL_STAGGER_SECONDS = 0.01
REMEMBERED_DISCONNECTS = 32

_handler: ContextVar[trio.Nursery | None] = ContextVar("inbound handler", default=None)


def free_inbound_slots() -> None:
    """The handler of an inbound connection waits for the whole swarm's end; here a sibling task ends it with its
    connection.

    The handler's nursery is passed to the upgrade, inside, by a context variable: only there is the muxed connection
    known.
    """
    handle = swarm.Swarm._do_handle_inbound_connection
    upgrade = swarm.Swarm.upgrade_inbound_raw_conn

    async def handle_until_closed(self: Any, stream: Any, address: Any, event: Any) -> None:
        async with trio.open_nursery() as nursery:
            token = _handler.set(nursery)
            try:
                await handle(self, stream, address, event)
            finally:
                _handler.reset(token)
            nursery.cancel_scope.cancel()

    async def upgrade_and_watch(self: Any, raw: Any, address: Any) -> Any:
        connection = await upgrade(self, raw, address)
        nursery = _handler.get()
        closed = getattr(connection, "event_closed", None)
        if nursery is not None and closed is not None:
            nursery.start_soon(_end_with, closed, nursery.cancel_scope)
        return connection

    replace(swarm.Swarm, "_do_handle_inbound_connection", handle_until_closed)
    replace(swarm.Swarm, "upgrade_inbound_raw_conn", upgrade_and_watch)


def shorten_dial_stagger() -> None:
    """After starting a dial the swarm waits this long for its failure, even when it has succeeded, before it looks."""
    replace(swarm, "_HAPPY_EYEBALLS_DELAY", DIAL_STAGGER_SECONDS)


def keep_private_addresses() -> None:
    """A connection under a pre-shared key forgets the socket below it, and asking for it warns on the root logger."""
    begin = psk_conn.PskConn.__init__

    def begin_whole(self: Any, connection: Any, psk: str) -> None:
        RawConnection.__init__(self, connection.stream, connection.is_initiator)
        begin(self, connection, psk)

    replace(psk_conn.PskConn, "__init__", begin_whole)


def forget_only_what_is_closed() -> None:
    """Closing a peer takes a moment, and then strikes all its connections from the records: one that the peer made
    meanwhile lives on, unknown to everybody, and can't be used or closed any more. A connection strikes itself out.
    """

    async def close_peer(self: Any, peer_id: Any) -> None:
        for connection in self.get_connections(peer_id):
            with suppress(Exception):  # it is on its way out already
                self.cleanup_connection_health(peer_id, connection)
                await connection.close()

    replace(swarm.Swarm, "close_peer", close_peer)


def forget_who_left() -> None:
    """The swarm notes when each peer left, for an auto-connector that we don't run, and never forgets."""
    record = AutoConnector.record_disconnect

    def record_a_few(self: Any, peer_id: Any) -> None:
        record(self, peer_id)
        while len(self._recent_disconnects) > REMEMBERED_DISCONNECTS:
            del self._recent_disconnects[next(iter(self._recent_disconnects))]

    replace(AutoConnector, "record_disconnect", record_a_few)


def count_streams_that_end_at_once() -> None:
    """A stream counts against the limit before it is told which way it goes; one that ends in between, since its
    connection does, is never counted down again, and 4,096 of them close the node to all streams.
    """
    notify = swarm.Swarm.notify_closed_stream

    async def notify_with_direction(self: Any, stream: Any) -> None:
        if stream._direction is Direction.UNKNOWN:
            stream._direction = Direction.OUTBOUND if stream.muxed_stream.is_initiator else Direction.INBOUND
        await notify(self, stream)

    replace(swarm.Swarm, "notify_closed_stream", notify_with_direction)


async def _end_with(closed: trio.Event, scope: trio.CancelScope) -> None:
    await closed.wait()
    scope.cancel()
