"""How the library's parts are set up for a node: transports, muxer, limits, gossip."""

from __future__ import annotations

import logging
import os
import socket
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import trio
from libp2p import create_yamux_muxer_option, new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.pubsub.gossipsub import PROTOCOL_ID as GOSSIPSUB_V10
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11 as GOSSIPSUB_V11
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V12 as GOSSIPSUB_V12
from libp2p.pubsub.gossipsub import GossipSub
from libp2p.pubsub.pubsub import Pubsub
from libp2p.rcmgr import new_resource_manager
from libp2p.rcmgr.manager import ResourceLimits
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from mpisa.network.libp2p_host.options import HostOptions
from mpisa.network.ports import NetworkLimits

GOSSIP_DEGREE = 6
GOSSIP_DEGREE_LOW = 4
GOSSIP_DEGREE_HIGH = 12
HEARTBEAT_SECONDS = 1
SPARE_CONNECTIONS = 16
"""Above `max_peers`, so that a peer that reconnects isn't refused while its old connection ends."""

MAX_STREAMS = 4096
MIN_RPC_BYTES = 1 << 20
MAX_SEEN_MESSAGES = 65_536
SEEN_SECONDS = 120.0


def build_host(options: HostOptions) -> Any:
    """TCP, noise and yamux alone; no second tries, no address discovery: the asyncio side decides whom to call and
    when.
    """
    limits = options.limits
    key_pair = create_new_key_pair(options.seed)
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    psk = options.pre_shared_key

    def announced(addresses: Sequence[Any]) -> list[Any]:
        host = options.announce_host or options.host
        ports = dict.fromkeys(address.value_for_protocol("tcp") for address in addresses)
        return [Multiaddr(f"/{ip_kind(host)}/{host}/tcp/{port}") for port in ports]

    host: Any = new_host(
        key_pair=key_pair,
        sec_opt={TProtocol(NOISE): noise},
        muxer_opt=create_yamux_muxer_option(),
        connection_config=ConnectionConfig(
            max_connections=limits.max_peers + SPARE_CONNECTIONS,
            min_connections=0,
            low_watermark=0,
            high_watermark=limits.max_peers,
            dial_timeout=limits.connect_timeout,
        ),
        resource_manager=_build_resource_manager(limits),
        psk=None if psk is None else psk.hex(),
        addrs_factory=None if options.announce_host is None else announced,
        disable_identify_address_discovery=True,
    )
    host.get_network().retry_config = RetryConfig(max_retries=0)
    return host


def build_gossip() -> Any:
    """Our own limiter stands for the library's, which drops silently above ten messages a second."""
    return GossipSub(
        protocols=[GOSSIPSUB_V12, GOSSIPSUB_V11, GOSSIPSUB_V10],
        degree=GOSSIP_DEGREE,
        degree_low=GOSSIP_DEGREE_LOW,
        degree_high=GOSSIP_DEGREE_HIGH,
        heartbeat_interval=HEARTBEAT_SECONDS,
        adaptive_gossip_enabled=False,
        spam_protection_enabled=False,
        eclipse_protection_enabled=False,
    )


class SeenMessages:
    """Message ids of two minutes, at most `MAX_SEEN_MESSAGES`. The library's cache has no bound, and a thread."""

    def __init__(self) -> None:
        self._expiry: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._expiry)

    def has(self, key: bytes) -> bool:
        """Whether the id was seen; seeing it again keeps it."""
        now = trio.current_time()
        while self._expiry and next(iter(self._expiry.values())) < now:
            self._expiry.popitem(last=False)
        if key not in self._expiry:
            return False
        self._keep(key, now)
        return True

    def add(self, key: bytes) -> bool:
        """Remembers the id; False when it was known."""
        if self.has(key):
            return False
        self._keep(key, trio.current_time())
        if len(self._expiry) > MAX_SEEN_MESSAGES:
            self._expiry.popitem(last=False)
        return True

    def stop(self) -> None:
        """Part of the library's cache; nothing to do."""

    def _keep(self, key: bytes, now: float) -> None:
        self._expiry[key] = now + SEEN_SECONDS
        self._expiry.move_to_end(key)


def build_pubsub(host: Any, gossip: Any, max_gossip_bytes: int) -> Any:
    pubsub: Any = Pubsub(
        host, gossip, strict_signing=True, max_inbound_rpc_size=max(MIN_RPC_BYTES, max_gossip_bytes * 4)
    )
    pubsub.seen_messages.stop()
    pubsub.seen_messages = SeenMessages()
    return pubsub


def quiet_logs() -> None:
    """The library warns of what is ordinary between peers, on stderr. LIBP2P_DEBUG brings its logs back."""
    if not os.environ.get("LIBP2P_DEBUG"):
        for name in ("libp2p", "libp2p.network.auto_connector"):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def check_port_is_free(host: str, port: int) -> None:
    """Raises OSError when somebody listens there: the library shares ports, and two nodes would share peers too."""
    if port == 0:
        return
    for kind, _, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        with socket.socket(kind, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise OSError(
                    error.errno, f"the libp2p host can't listen on {host}:{port}: {error.strerror}"
                ) from error


def ip_kind(host: str) -> str:
    """The multiaddr protocol of a host: ip4, ip6 or dns4."""
    if ":" in host:
        return "ip6"
    return "ip4" if host.replace(".", "").isdigit() else "dns4"


def _build_resource_manager(limits: NetworkLimits) -> Any:
    """Connections and streams are counted; its pools, breakers and memory probes aren't needed."""
    return new_resource_manager(
        limits=ResourceLimits(max_connections=limits.max_peers + SPARE_CONNECTIONS, max_streams=MAX_STREAMS),
        enable_metrics=False,
        enable_memory_limits=False,
        enable_memory_pooling=False,
        enable_circuit_breaker=False,
        enable_graceful_degradation=False,
    )
