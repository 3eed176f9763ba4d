"""Whom this node is connected to: hello, the peers of today, the peers met before, and whom to call next.

A peer counts once its hello was right. The dialler says hello, the other answers; who belongs to another chain is
told so and disconnected. Bootstrap peers are called until they answer, with growing waits; peers met before are
called while there are few.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

from mpisa.network import messages
from mpisa.network.libp2p_host.host import Libp2pHost
from mpisa.network.messages import HELLO_PROTOCOL, Hello
from mpisa.network.peer_store import PeerStore
from mpisa.network.ports import NetworkConfig, NetworkStats, PeerAddress, PeerId, PeerInfo, PeerObserver
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason, Unreachable

ENOUGH_PEERS = 8
"""Below this many peers, those met before are called too."""

CALLS_AT_ONCE = 4
CALL_FIRST_SECONDS = 0.2
CALL_CAP_SECONDS = 10.0
HELLO_SECONDS = 5.0
NEIGHBOUR_SECONDS = 2.0
"""How long after a peer arrived its neighbours are looked up: several arrive at once when a network starts."""

SAVE_SECONDS = 30.0
PARTING_SECONDS = 0.1


class Peering:
    """The peers of one node. `on_change` hears of each peer that arrived; `observer` is the node's."""

    def __init__(
        self,
        own: PeerId,
        config: NetworkConfig,
        host: Libp2pHost,
        stats: NetworkStats,
        on_arrival: Callable[[PeerId], None],
    ) -> None:
        self._own = own
        self._config = config
        self._host = host
        self._stats = stats
        self._on_arrival = on_arrival
        self._store = PeerStore(config.peer_store, config.limits.max_stored_peers)
        self._bootstrap = [
            PeerAddress(peer, (address,)) for peer, address in map(messages.split_peer_address, config.bootstrap)
        ]
        self._peers: dict[PeerId, PeerInfo] = {}
        self._linked: set[PeerId] = set()
        self._greeting: dict[PeerId, asyncio.Task[PeerInfo]] = {}
        self._left: set[PeerId] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._lost = asyncio.Event()
        self._arrived = asyncio.Event()
        self._hello: Hello | None = None
        self.observer: PeerObserver | None = None

    def start(self, hello: Hello) -> None:
        """From now on peers are greeted with this hello, and called."""
        self._hello = hello
        self._spawn(self._call_peers(), "call peers")
        self._spawn(self._meet_neighbours(), "meet neighbours")
        self._spawn(self._save_now_and_then(), "save peers")

    async def stop(self) -> None:
        self._hello = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._peers.clear()
        with suppress(OSError):  # the peers met are a hint: a full disk must not keep a node from stopping
            self._store.save()

    def peers(self) -> list[PeerInfo]:
        return [self._peers[peer] for peer in sorted(self._peers)]

    def find(self, peer: PeerId) -> PeerAddress | None:
        """What is known of a peer's addresses, connected or met before."""
        info = self._peers.get(peer)
        return self._store.get(peer) if info is None else info.address

    async def connect(self, address: PeerAddress) -> PeerInfo:
        """Raises Unreachable, TimedOut, or Rejection(WRONG_CHAIN)."""
        if address.peer_id not in self._peers:
            timeout = self._config.limits.connect_timeout
            await self._host.connect(address.peer_id, address.multiaddrs, timeout=timeout)
            await asyncio.shield(self._greet(address.peer_id))
        info = self._peers.get(address.peer_id)
        if info is None:
            raise Unreachable(f"{address.peer_id} left again")
        return info

    async def reach(self, address: PeerAddress, seconds: float) -> None:
        """Connects to a peer, of our kind or not. Raises Unreachable or TimedOut."""
        if address.peer_id not in self._linked:
            timeout = min(seconds, self._config.limits.connect_timeout)
            await self._host.connect(address.peer_id, address.multiaddrs, timeout=timeout)

    async def introduce(self, claim: PeerAddress) -> PeerAddress:
        """What a peer that someone named says of itself. Raises MpisaError."""
        return (await self.connect(claim)).address

    def call_again(self) -> None:
        """Somebody may be reachable again: no waiting until the next round of calls."""
        self._lost.set()

    def peer_connected(self, peer: PeerId, outbound: bool) -> None:
        self._stats.connections_opened += 1
        self._linked.add(peer)
        if outbound and self._hello is not None:
            self._greet(peer).add_done_callback(_forget_failure)

    def peer_disconnected(self, peer: PeerId) -> None:
        self._linked.discard(peer)
        info = self._peers.pop(peer, None)
        if peer in self._greeting:
            self._left.add(peer)
        self._lost.set()
        if info is not None and self.observer is not None:
            self.observer(PeerInfo(peer, info.address, False, info.version))

    async def answer_hello(self, peer: PeerId, question: bytes) -> bytes:
        """Our hello, for theirs. A wrong one is answered too, so that the other side sees why; then the peer is
        disconnected.
        """
        if self._hello is None:
            raise Unreachable("the network is stopping")
        answer = messages.encode_hello(self._hello)
        try:
            self._admit(peer, messages.decode_hello(question))
        except Rejection as rejection:
            self._refuse(peer, rejection)
        return answer

    def _greet(self, peer: PeerId) -> asyncio.Task[PeerInfo]:
        """The one running greeting of a peer."""
        task = self._greeting.get(peer)
        if task is None:
            task = self._greeting[peer] = self._spawn(self._say_hello(peer), "hello")
            task.add_done_callback(lambda _: self._greeted(peer))
        return task

    def _greeted(self, peer: PeerId) -> None:
        self._greeting.pop(peer, None)
        self._left.discard(peer)

    async def _say_hello(self, peer: PeerId) -> PeerInfo:
        if self._hello is None:
            raise Unreachable("the network is stopped")
        question = messages.encode_hello(self._hello)
        self._left.discard(peer)
        answer = await self._host.ask(
            peer, HELLO_PROTOCOL, question, max_bytes=messages.MAX_HELLO_BYTES, timeout=HELLO_SECONDS
        )
        if peer in self._left:  # nobody would tell of it again: it would count as a peer for good
            raise Unreachable(f"{peer} left while it was greeted")
        try:
            return self._admit(peer, messages.decode_hello(answer))
        except Rejection as rejection:
            self._refuse(peer, rejection)
            raise

    def _admit(self, peer: PeerId, hello: Hello) -> PeerInfo:
        """Takes the peer in. Raises Rejection(WRONG_CHAIN)."""
        if hello.chain_hash != self._config.chain_hash:
            expected, got = self._config.chain_hash.hex()[:16], hello.chain_hash.hex()[:16]
            raise Rejection(RejectionReason.WRONG_CHAIN, f"{peer}, expected chain {expected}, got {got}")
        info = PeerInfo(peer, hello.address_of(peer), True, hello.version)
        news = self._peers.get(peer) != info
        self._peers[peer] = info
        self._store.remember(info.address)
        self._spawn(self._host.learn(peer, hello.addresses), "learn")
        self._arrived.set()
        self._on_arrival(peer)
        if news and self.observer is not None:
            self.observer(info)
        return info

    def _refuse(self, peer: PeerId, rejection: Rejection) -> None:
        if rejection.reason is RejectionReason.WRONG_CHAIN:
            self._stats.peers_wrong_chain += 1
        else:
            self._stats.peers_disconnected_garbage += 1
        self._store.forget(peer)
        self._spawn(self._part(peer), "disconnect")

    async def _part(self, peer: PeerId) -> None:
        """Disconnects, after a moment in which our answer travels."""
        await asyncio.sleep(PARTING_SECONDS)
        await self._host.disconnect(peer)

    async def _call_peers(self) -> None:
        wait = CALL_FIRST_SECONDS
        limiter = asyncio.Semaphore(CALLS_AT_ONCE)
        while True:
            self._lost.clear()
            missing = self._to_call()
            await asyncio.gather(*(self._call(address, limiter) for address in missing))
            wait = CALL_FIRST_SECONDS if not self._to_call() else min(wait * 2, CALL_CAP_SECONDS)
            try:
                async with asyncio.timeout(wait if self._to_call() else None):
                    await self._lost.wait()
            except TimeoutError:
                continue

    def _to_call(self) -> list[PeerAddress]:
        calls = {address.peer_id: address for address in self._bootstrap}
        if len(self._peers) < ENOUGH_PEERS:
            for address in self._store.addresses()[:ENOUGH_PEERS]:
                calls.setdefault(address.peer_id, address)
        return [address for peer, address in calls.items() if peer not in self._peers and peer != self._own]

    async def _call(self, address: PeerAddress, limiter: asyncio.Semaphore) -> None:
        async with limiter:
            with suppress(MpisaError):  # called again after the wait
                await self.connect(address)

    async def _meet_neighbours(self) -> None:
        """After peers arrived: who is near us, so that the routing table isn't empty until the library's first
        refresh.
        """
        while True:
            await self._arrived.wait()
            await asyncio.sleep(NEIGHBOUR_SECONDS)
            self._arrived.clear()
            with suppress(MpisaError):
                found = await self._host.find_neighbours()
                if len(self._peers) < ENOUGH_PEERS:
                    for peer, addresses in found[:ENOUGH_PEERS]:
                        if peer not in self._peers and peer != self._own and addresses:
                            await self._call(PeerAddress(peer, addresses), asyncio.Semaphore(1))

    async def _save_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SAVE_SECONDS)
            with suppress(OSError):  # again in a while
                await asyncio.to_thread(self._store.save)

    def _spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(_quiet(coroutine) if name != "hello" else coroutine, name=f"network {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


async def _quiet(coroutine: Coroutine[Any, Any, Any]) -> None:
    """A background step that a lost connection may end at any time."""
    with suppress(MpisaError):
        await coroutine


def _forget_failure(task: asyncio.Task[PeerInfo]) -> None:
    """Nobody waits for this greeting: its failure has been counted, and the peer is called again."""
    if not task.cancelled():
        task.exception()
