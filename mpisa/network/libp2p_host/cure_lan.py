"""Cure of libp2p.kad_dht: peers of the LAN's DHT take part.

Kubo keeps two tables, one for public addresses and one for private ones, and speaks only `/ipfs/lan/kad/1.0.0` with
peers of the latter, loopback among them. Its messages are the same. So we serve them under both names, ask a peer by
whichever it knows, and take it into the routing table when it serves either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from libp2p.custom_types import TProtocol
from libp2p.host.basic_host import BasicHost
from libp2p.kad_dht.common import PROTOCOL_ID
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.kad_dht.routing_table import RoutingTable
from libp2p.peer.peerstore import PeerStoreError

from mpisa.network.libp2p_host.replacing import replace

LAN_PROTOCOL = TProtocol("/ipfs/lan/kad/1.0.0")


def speak_with_the_lan() -> None:
    """The wire stays as it is, but for one more name."""
    build, new_stream, add_peer = KadDHT.__init__, BasicHost.new_stream, RoutingTable.add_peer

    def build_for_both(self: Any, host: Any, mode: DHTMode, *args: Any, **options: Any) -> None:
        build(self, host, mode, *args, **options)
        if mode is DHTMode.SERVER:
            host.set_stream_handler(LAN_PROTOCOL, self.handle_stream)

    async def new_stream_of_either(self: Any, peer_id: Any, protocol_ids: Sequence[TProtocol]) -> Any:
        either = [PROTOCOL_ID, LAN_PROTOCOL] if list(protocol_ids) == [PROTOCOL_ID] else protocol_ids
        return await new_stream(self, peer_id, either)

    async def add_peer_of_either(self: Any, peer: Any, skip_server_mode_check: bool = False) -> Any:
        skip = skip_server_mode_check or _serves_the_lan(self.host, getattr(peer, "peer_id", peer))
        return await add_peer(self, peer, skip_server_mode_check=skip)

    replace(KadDHT, "__init__", build_for_both)
    replace(BasicHost, "new_stream", new_stream_of_either)
    replace(RoutingTable, "add_peer", add_peer_of_either)


def _serves_the_lan(host: Any, peer_id: Any) -> bool:
    """By what it said of itself when it was identified."""
    try:
        return str(LAN_PROTOCOL) in host.get_peerstore().get_protocols(peer_id)
    except PeerStoreError:
        return False
