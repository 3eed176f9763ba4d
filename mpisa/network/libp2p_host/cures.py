"""Our repairs of py-libp2p 0.8.1, each named, each switchable, so that its test can show the fault without it.

Installing replaces functions of the library for the whole process, once. The wire format never changes.

    INBOUND_SLOT         a closed inbound connection gives its slot and task back (stock: 250 in a node's life)
    CONNECT_STAGGER      a dial that succeeded doesn't wait out the pause before the next address (stock: 250 ms)
    PRIVATE_ADDRESS      a connection under a pre-shared key knows its address (stock: warnings on the root logger)
    CLOSED_PEER          closing a peer doesn't lose the connection that it makes meanwhile (stock: alive, unknown)
    WHO_LEFT             when a peer left isn't remembered for ever (stock: an entry a peer, never removed)
    STREAM_COUNT         a stream that ends as it begins is counted down too (stock: its slot is lost)
    SHIELDED_WRITE       cancelling a writer never cuts a frame (stock: another stream of the connection breaks)
    FRAME_SIZE           a frame fits one noise packet
    WINDOW               credit is returned by halves of the window, and a blocked writer waits for an event
    NOISE_READ           many packets a system call
    GOSSIP_QUEUES        queues that take a burst (stock: 32 messages)
    SIGNED_RECORDS       our own record is signed, and a peer's is checked, once, not with every message
    LATE_TASK            a task that arrives after shutdown began is let go
    DHT_END_OF_STREAM    a clean end of a DHT stream is one
    DHT_PROVIDERS        distinct answers, never kept as our own records; a bounded store; a lookup asks at once
    DHT_PROVIDE          no lookup when all peers are known; returns when the closest peers were told
    DHT_LAN              peers of Kubo's table for private addresses are spoken with
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum

from mpisa.network.libp2p_host import cure_dht, cure_gossip, cure_lan, cure_swarm, cure_yamux
from mpisa.network.libp2p_host.version import check_version


class Cure(Enum):
    INBOUND_SLOT = "inbound-slot"
    CONNECT_STAGGER = "connect-stagger"
    PRIVATE_ADDRESS = "private-address"
    CLOSED_PEER = "closed-peer"
    WHO_LEFT = "who-left"
    STREAM_COUNT = "stream-count"
    SHIELDED_WRITE = "shielded-write"
    FRAME_SIZE = "frame-size"
    WINDOW = "window"
    NOISE_READ = "noise-read"
    GOSSIP_QUEUES = "gossip-queues"
    SIGNED_RECORDS = "signed-records"
    LATE_TASK = "late-task"
    DHT_END_OF_STREAM = "dht-end-of-stream"
    DHT_PROVIDERS = "dht-providers"
    DHT_PROVIDE = "dht-provide"
    DHT_LAN = "dht-lan"


INSTALLERS: dict[Cure, Callable[[], None]] = {
    Cure.INBOUND_SLOT: cure_swarm.free_inbound_slots,
    Cure.CONNECT_STAGGER: cure_swarm.shorten_dial_stagger,
    Cure.PRIVATE_ADDRESS: cure_swarm.keep_private_addresses,
    Cure.CLOSED_PEER: cure_swarm.forget_only_what_is_closed,
    Cure.WHO_LEFT: cure_swarm.forget_who_left,
    Cure.STREAM_COUNT: cure_swarm.count_streams_that_end_at_once,
    Cure.SHIELDED_WRITE: cure_yamux.shield_writes,
    Cure.FRAME_SIZE: cure_yamux.fit_frames,
    Cure.WINDOW: cure_yamux.return_credit_by_halves,
    Cure.NOISE_READ: cure_yamux.read_ahead,
    Cure.GOSSIP_QUEUES: cure_gossip.enlarge_queues,
    Cure.SIGNED_RECORDS: cure_gossip.remember_records,
    Cure.LATE_TASK: cure_gossip.forgive_late_tasks,
    Cure.DHT_END_OF_STREAM: cure_dht.end_streams_cleanly,
    Cure.DHT_PROVIDERS: cure_dht.distinct_providers,
    Cure.DHT_PROVIDE: cure_dht.provide_to_known_peers,
    Cure.DHT_LAN: cure_lan.speak_with_the_lan,
}

ALL_CURES = frozenset(Cure)
_installed: set[Cure] = set()


def install(cures: Iterable[Cure] = ALL_CURES) -> None:
    """Installs the given cures; those already installed stay. Raises NotReady for another version of the library."""
    check_version()
    for cure in Cure:
        if cure in frozenset(cures) and cure not in _installed:
            INSTALLERS[cure]()
            _installed.add(cure)
