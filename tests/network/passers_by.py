"""Peers that come and go, each with a key of its own, some at a time: `python -m tests.network.passers_by`.

A line in, `[address, count, CID, first number]`, brings so many; a line out says how many got what they came for. Of
four, one only connects, one asks for a block by bitswap and reads it, one cuts the connection inside a message, and
one says hello as our nodes do.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import trio
from libp2p import create_yamux_muxer_option, new_host
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.peer.peerinfo import info_from_p2p_addr
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from mpisa.network.bitswap.messages import Entry, Message, encode_message
from mpisa.network.libp2p_host import cures, streams
from mpisa.network.messages import HELLO_PROTOCOL, MAX_HELLO_BYTES, Hello, encode_hello, peer_port_of
from mpisa.primitives.cid import Cid
from mpisa.primitives.dag_pb import encode_varint
from tests.network.support import CHAIN

BITSWAP = TProtocol("/ipfs/bitswap/1.2.0")
AT_ONCE = 8
PATIENCE = 30.0


async def pass_by(address: str, number: int, cid: Cid) -> bool:
    """Whether this peer got what it came for."""
    key_pair = create_new_key_pair(number.to_bytes(32, "big"))
    host: Any = new_host(
        key_pair=key_pair,
        sec_opt={TProtocol(NOISE): NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)},
        muxer_opt=create_yamux_muxer_option(),
        connection_config=ConnectionConfig(min_connections=0, low_watermark=0),
    )
    answered = trio.Event()

    async def answer(stream: Any) -> None:
        if await stream.read(1):
            answered.set()
        await stream.reset()

    host.set_stream_handler(BITSWAP, answer)
    async with host.run(listen_addrs=[]):
        server = info_from_p2p_addr(Multiaddr(address))
        await host.connect(server)
        kind = number % 4
        if kind == 3:
            stream = await host.new_stream(server.peer_id, [TProtocol(HELLO_PROTOCOL)])
            port = f"/ip4/127.0.0.1/tcp/{10_000 + number % 50_000}"
            await streams.write_message(
                stream, encode_hello(Hello(CHAIN, "test/1", (port,), peer_port_of("127.0.0.1", 1)))
            )
            await streams.read_message(stream, MAX_HELLO_BYTES)
        elif kind:
            stream = await host.new_stream(server.peer_id, [BITSWAP])
            message = encode_message(Message((Entry(cid),)))
            framed = encode_varint(len(message)) + message
            await stream.write(framed if kind == 1 else framed[:-1])
        if kind == 1:
            await answered.wait()
        await host.disconnect(server.peer_id)
    return True


async def main(address: str, count: int, cid: Cid, first: int) -> int:
    limiter = trio.CapacityLimiter(AT_ONCE)
    served = 0

    async def one(number: int) -> None:
        nonlocal served
        async with limiter:
            with trio.move_on_after(PATIENCE):
                done = await pass_by(address, number, cid)
                served += done

    async with trio.open_nursery() as nursery:
        for number in range(first, first + count):
            nursery.start_soon(one, number)
    return served


if __name__ == "__main__":
    cures.install()
    print("ready", flush=True)
    for line in sys.stdin:
        address, count, cid, first = json.loads(line)
        print(json.dumps(trio.run(main, address, count, Cid.parse(cid), first)), flush=True)
