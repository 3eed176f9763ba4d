"""Bitswap over real libp2p hosts: blocks both ways, and peers that send what they shouldn't."""

import asyncio
import os
from contextlib import suppress

import pytest

from mpisa.network.bitswap import service
from mpisa.network.bitswap.messages import (
    MAX_MESSAGE_BYTES,
    Entry,
    Message,
    WantType,
    decode_message,
    encode_message,
    prefix_of,
)
from mpisa.network.libp2p_host.host import Libp2pHost
from mpisa.network.libp2p_host.options import HostOptions
from mpisa.network.ports import PeerAddress
from mpisa.network.service import PeerNetwork
from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.errors import NotFound, TimedOut, Unreachable
from tests.network.support import DEADLINE, Changes, DictBlocks, config, eventually, limits


class Stranger:
    """A libp2p host that speaks bitswap and nothing of ours, and keeps what it hears."""

    def __init__(self, number: int) -> None:
        self.host = Libp2pHost()
        self.heard: list[Message] = []
        self.deaf: asyncio.Event | None = None
        self.gone = 0
        self.changes = Changes()
        self._options = HostOptions(
            seed=bytes([number]) * 32,
            host="127.0.0.1",
            port=0,
            announce_host=None,
            pre_shared_key=None,
            limits=limits(),
            protocols=(),
        )

    async def meet(self, network: PeerNetwork) -> None:
        await self.host.start(self._options, self)
        self.network = network
        await self.host.connect(network.peer_id, network.address.multiaddrs, timeout=DEADLINE)

    async def say(self, message: Message) -> None:
        await self.say_raw(encode_message(message))

    async def say_raw(self, raw: bytes) -> None:
        await self.host.send_bitswap(self.network.peer_id, raw)

    async def until_heard(self, holds) -> list[Message]:
        await self.changes.until(lambda: holds(self.heard))
        return self.heard

    def blocks(self) -> list[bytes]:
        return [data for message in self.heard for _, data in message.blocks]

    async def bitswap(self, peer, raw) -> None:
        if self.deaf is not None:
            await self.deaf.wait()
        self.heard.append(decode_message(raw))
        await self.changes.notify()

    def peer_connected(self, peer, outbound) -> None:
        pass

    def peer_disconnected(self, peer) -> None:
        self.gone += 1

    def gossip(self, topic, peer, data) -> None:
        pass

    async def answer(self, peer, protocol, question):
        raise NotFound("nothing is answered here")

    async def frames(self, peer, message) -> None:
        pass


@pytest.fixture
async def node():
    blocks = DictBlocks()
    async with PeerNetwork(config(1), blocks) as network:
        network.blocks = blocks
        yield network


@pytest.fixture
async def stranger(node):
    stranger = Stranger(2)
    await stranger.meet(node)
    yield stranger
    await stranger.host.stop()


async def still_serves(node, stranger) -> None:
    """Whoever asks properly is answered."""
    cid = node.blocks.add(os.urandom(100))
    before = len(stranger.blocks())
    await stranger.say(Message((Entry(cid),)))
    await stranger.until_heard(lambda heard: len(stranger.blocks()) > before)
    assert stranger.blocks()[-1] == node.blocks.held[cid]


async def test_blocks_of_any_size_by_bitswap_where_a_provider_has_no_peer_port(node):
    async with PeerNetwork(config(3), DictBlocks()) as other:
        provider = PeerAddress(node.peer_id, node.address.multiaddrs)
        cids = [node.blocks.add(os.urandom(size)) for size in (1, 1000, 70_000, 2 << 20)]
        assert await other.exchange.fetch(cids[3], [provider]) == node.blocks.held[cids[3]]
        many = cids + [node.blocks.add(os.urandom(20_000)) for _ in range(200)]
        got = {cid: data async for cid, data in other.exchange.fetch_many(many, [provider])}
        assert got == {cid: node.blocks.held[cid] for cid in many}
        with pytest.raises(NotFound):
            await other.exchange.fetch(Cid.of(b"nowhere"), [provider])
        assert (len(other.bitswap.wants), len(node.bitswap.ledger)) == (0, 0)
        assert node.stats.bitswap_blocks_served == 205
        assert node.stats.blocks_served == 0
        assert other.stats.bitswap_unasked_bytes == 0


async def test_a_provider_that_is_down_or_silent_ends_in_an_error(node, stranger):
    down = PeerAddress(node.peer_id, ("/ip4/127.0.0.1/tcp/1",))
    async with PeerNetwork(config(3), DictBlocks()) as other:
        with pytest.raises(Unreachable):
            await other.bitswap.get_block(down, Cid.of(b"x"), timeout=2)
    silent = PeerAddress(await peer_of(node), ())
    with pytest.raises(TimedOut):
        await node.bitswap.get_block(silent, Cid.of(b"x"), timeout=0.2)
    heard = await stranger.until_heard(lambda heard: len(heard) == 2)
    assert heard == [
        Message((Entry(Cid.of(b"x"), send_dont_have=True),)),
        Message((Entry(Cid.of(b"x"), cancel=True),)),
    ]
    waiting = asyncio.create_task(node.bitswap.get_block(silent, Cid.of(b"y"), timeout=DEADLINE))
    await stranger.until_heard(lambda heard: len(heard) == 3)
    await stranger.host.stop()
    with pytest.raises(Unreachable):
        await waiting
    assert len(node.bitswap.wants) == 0


async def peer_of(node):
    """The one peer that is connected and no MPISA node."""
    await eventually(lambda: len(node._peering._linked) == 1)
    return next(iter(node._peering._linked))


async def test_wants_are_answered_as_kubo_expects(node, stranger):
    small, large = node.blocks.add(b"s" * 1024), node.blocks.add(b"l" * 1025)
    old = Cid.of(b"node", codec=DAG_PB, version=0)
    node.blocks.held[old] = b"node"
    absent, unknown = Cid.of(b"absent"), Cid.of(b"unknown")
    await stranger.say(
        Message(
            (
                Entry(small, 9, WantType.HAVE),
                Entry(large, 8, WantType.HAVE),
                Entry(old, 7),
                Entry(absent, 6, send_dont_have=True),
                Entry(unknown, 5),
            )
        )
    )
    heard = await stranger.until_heard(lambda heard: len(heard) >= 1)
    assert heard == [
        Message(
            blocks=((prefix_of(small), b"s" * 1024), (bytes((0, 0x70, 0x12, 0x20)), b"node")),
            presences=((large, True), (absent, False)),
        )
    ]


async def test_garbage_and_oversized_messages_end_the_stream_only(node, stranger):
    too_long = encode_message(Message(blocks=((b"", bytes(MAX_MESSAGE_BYTES)),)))
    for raw in (b"\xff" * 50, b"\x0a\x04\x0a\x02\x0a\x00", too_long):
        refused = node.snapshot().bitswap_messages_refused
        with suppress(Unreachable):  # cut while it is being sent
            await stranger.say_raw(raw)
        await eventually(lambda refused=refused: node.snapshot().bitswap_messages_refused > refused)
    assert node.snapshot().bitswap_messages_refused == 3
    await eventually_served(node, stranger)


async def eventually_served(node, stranger) -> None:
    """The stream that was cut may swallow the first question."""
    cid = node.blocks.add(os.urandom(100))
    async with asyncio.timeout(DEADLINE):
        while not stranger.blocks():
            await stranger.say(Message((Entry(cid),)))
            await asyncio.sleep(0.05)
    assert stranger.blocks()[0] == node.blocks.held[cid]


async def test_ten_thousand_wants_at_once(node, stranger):
    """As many as fit are answered, the others are dropped and counted; nothing is left."""
    cids = [node.blocks.add(number.to_bytes(4, "big") * 8) for number in range(10_000)]
    await stranger.say(Message(tuple(map(Entry, cids))))
    allowed = node._config.limits.bitswap_wants_per_peer
    await stranger.until_heard(lambda heard: len(stranger.blocks()) >= allowed)
    await eventually(lambda: len(node.bitswap.ledger) == 0)
    assert node.stats.bitswap_wants_refused == 10_000 - allowed
    assert len(stranger.blocks()) == allowed
    await still_serves(node, stranger)


async def test_who_never_reads_is_muted_and_holds_one_answer(node, stranger, monkeypatch):
    monkeypatch.setattr(service, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(service, "SLOWEST_BYTES_A_SECOND", 1 << 30)
    stranger.deaf = asyncio.Event()
    cids = [node.blocks.add(os.urandom(1 << 20)) for _ in range(24)]
    await stranger.say(Message(tuple(map(Entry, cids))))
    await eventually(lambda: node.stats.bitswap_peers_muted == 1)
    await eventually(lambda: not node.bitswap._serving)
    assert len(node.bitswap.ledger) == 0
    assert node.stats.bitswap_bytes_served < 24 << 20
    await stranger.say(Message((Entry(cids[0]),)))
    await eventually(lambda: node.stats.bitswap_wants_refused == 1)
    other = Stranger(4)
    await other.meet(node)
    await still_serves(node, other)
    await other.host.stop()
    stranger.deaf.set()


async def test_a_flood_of_blocks_nobody_asked_for_ends_the_connection(node, stranger, monkeypatch):
    monkeypatch.setattr(service, "MAX_UNASKED_BYTES", 4 << 20)
    await stranger.say(Message(blocks=((prefix_of(Cid.of(b"")), bytes(1 << 20)),)))
    await eventually(lambda: node.stats.bitswap_unasked_bytes == 1 << 20)
    await still_serves(node, stranger)
    async with asyncio.timeout(DEADLINE):
        with suppress(Unreachable):
            while not stranger.gone:
                await stranger.say(Message(blocks=((prefix_of(Cid.of(b"")), bytes(1 << 20)),)))
    await eventually(lambda: stranger.gone == 1)
    assert node.stats.bitswap_unasked_bytes < 16 << 20


async def test_a_wrong_block_is_no_answer(node, stranger):
    cid = Cid.of(b"right")
    waiting = asyncio.create_task(node.bitswap.get_block(PeerAddress(await peer_of(node), ()), cid, timeout=DEADLINE))
    await stranger.until_heard(lambda heard: len(heard) == 1)
    await stranger.say(Message(blocks=((prefix_of(cid), b"wrong"), (b"\xff", b"right"))))
    await eventually(lambda: node.stats.bitswap_unasked_bytes == 10)
    assert not waiting.done()
    await stranger.say(Message(blocks=((prefix_of(cid), b"right"),)))
    assert await waiting == b"right"


async def test_a_greedy_peer_doesnt_keep_a_modest_one_waiting(node, stranger):
    """While one peer's 512 MiB are on their way, another's small want is answered within a few turns."""
    blob = os.urandom(1 << 20)
    wanted = []
    for number in range(512):
        cid = Cid.of(blob + number.to_bytes(2, "big"))
        node.blocks.held[cid] = blob + number.to_bytes(2, "big")
        wanted.append(cid)
    other = Stranger(5)
    await other.meet(node)
    await stranger.say(Message(tuple(map(Entry, wanted))))
    await stranger.until_heard(lambda heard: len(stranger.blocks()) > 0)
    await still_serves(node, other)
    assert len(stranger.blocks()) < 256
    await stranger.say(Message(full=True))
    await other.host.stop()
