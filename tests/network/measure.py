"""Run by hand: figures of the network room between processes of this machine, `python tests/network/measure.py WHAT`.

transfer: 256 MiB from one process to another over the peer port, hashed, kept nowhere or written to files and synced.
idle: four nodes with authority links and nothing to do: share of a core, resident memory of each.
calls: connect, request, gossip, provide, find between four processes.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

from mpisa.network.libp2p_host import load
from mpisa.network.peer_id import HostKey
from mpisa.network.ports import NetworkConfig, PeerAddress, PeerId
from mpisa.network.service import PeerNetwork
from mpisa.network.tls import client_context, server_context
from mpisa.primitives.cid import Cid

BLOCKS = 256
BLOCK_BYTES = 1 << 20


class Blocks:
    def __init__(self) -> None:
        self.held: dict[Cid, bytes] = {}

    def get(self, cid: Cid) -> bytes | None:
        return self.held.get(cid)

    def size_of(self, cid: Cid) -> int | None:
        return len(self.held[cid]) if cid in self.held else None


def config(number: int, bootstrap: tuple[str, ...] = ()) -> NetworkConfig:
    return NetworkConfig(
        identity_seed=bytes([number]) * 32, chain_hash=b"m" * 32, version="measure/1", bootstrap=bootstrap
    )


def resident_mib() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def receive(pipe: Connection) -> object:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(None, pipe.recv)


async def node(number: int, pipe: Connection, small: bool) -> None:
    blocks = Blocks()
    if number == 1 and not small:
        for index in range(BLOCKS):
            data = index.to_bytes(4, "big") + os.urandom(BLOCK_BYTES - 4)
            blocks.held[Cid.of(data)] = data
    if number == 1 and small:
        for index in range(4096):
            data = index.to_bytes(4, "big") + os.urandom(4092)
            blocks.held[Cid.of(data)] = data
    bootstrap = await receive(pipe)
    network = PeerNetwork(config(number, bootstrap), blocks)  # type: ignore[arg-type]

    async def echo(peer: PeerId, body: bytes) -> bytes:
        return body

    async def on_frame(peer: PeerId, frame: bytes) -> None:
        if frame[:1] == b"?":
            await network.authorities.send(peer, b"!" + frame[1:])
        else:
            answers.put_nowait(frame)

    answers: asyncio.Queue[bytes] = asyncio.Queue()
    network.authorities.set_request_handler("echo", echo)
    network.authorities.set_handler(on_frame)
    started = time.perf_counter()
    await network.start()
    pipe.send((network.address, time.perf_counter() - started, [str(cid) for cid in blocks.held]))
    while True:
        command, *args = await receive(pipe)  # type: ignore[misc]
        if command == "stop":
            started = time.perf_counter()
            await network.stop()
            pipe.send(time.perf_counter() - started)
            return
        if command == "authorities":
            network.authorities.set_authorities(args[0])
            while len(network.authorities.linked()) < len(args[0]) - 1:
                await asyncio.sleep(0.01)
            pipe.send(None)
        if command == "cpu":
            pipe.send((cpu(), resident_mib()))
        if command == "fetch":
            pipe.send(await fetch(network, *args))
        if command == "calls":
            pipe.send(await calls(network, answers, *args))
        if command == "subscribe":
            subscription = await network.subscribe("measure")
            pipe.send(None)
        if command == "heard":
            pipe.send([(message.data, time.time()) for message in [await anext(subscription) for _ in range(args[0])]])
        if command == "publish":
            for index in range(args[0]):
                await network.publish("measure", b"%d %f" % (index, time.time()) + bytes(1000))
                await asyncio.sleep(args[1])
            pipe.send(None)


async def fetch(
    network: PeerNetwork, provider: PeerAddress, cids: list[str], folder: str | None
) -> tuple[float, float]:
    wanted = [Cid.parse(cid) for cid in cids]
    before, started = cpu(), time.perf_counter()
    writing: list[asyncio.Future[None]] = []
    loop = asyncio.get_running_loop()
    total = 0
    async for cid, data in network.exchange.fetch_many(wanted, [provider], concurrency=8):
        total += len(data)
        if folder is not None:
            writing.append(loop.run_in_executor(None, _write, Path(folder) / str(cid), data))
            if len(writing) > 16:
                await writing.pop(0)
    for pending in writing:
        await pending
    if folder is not None:
        await loop.run_in_executor(None, os.sync)
    return total / (time.perf_counter() - started) / (1 << 20), cpu() - before


async def serve_plain(pipe: Connection) -> None:
    """The limit to compare with: aiohttp over TLS, one large body after another."""
    blocks = [index.to_bytes(4, "big") + os.urandom(BLOCK_BYTES - 4) for index in range(BLOCKS)]

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=blocks[int(request.match_info["index"])])

    app = web.Application()
    app.router.add_get("/{index}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    key = HostKey(bytes(32))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context(key, datetime.datetime.now(datetime.UTC)))
    await site.start()
    pipe.send(site._server.sockets[0].getsockname()[1])  # type: ignore[union-attr]
    await receive(pipe)
    await runner.cleanup()


async def fetch_plain(port: int) -> float:
    connector = aiohttp.TCPConnector(ssl=client_context(HostKey(bytes(32)).peer_id))
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(connector=connector, read_bufsize=2 << 20) as session:

        async def get(index: int) -> None:
            async with session.get(f"https://127.0.0.1:{port}/{index}") as response:
                data = await response.read()
            await loop.run_in_executor(None, hashlib.sha256, data)

        started = time.perf_counter()
        for first in range(0, BLOCKS, 8):
            await asyncio.gather(*(get(index) for index in range(first, first + 8)))
        return BLOCKS / (time.perf_counter() - started)


def compare() -> None:
    ours, theirs = multiprocessing.Pipe()

    def serve() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_plain(theirs))

    process = multiprocessing.Process(target=serve)
    process.start()
    port = ours.recv()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        for _ in range(3):
            print(f"plain aiohttp over TLS, hashed: {runner.run(fetch_plain(port)):.0f} MiB/s")
    ours.send(None)
    process.join()


def _write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


async def calls(network: PeerNetwork, answers: asyncio.Queue[bytes], other: PeerAddress) -> dict[str, float]:
    figures: dict[str, float] = {}
    times = []
    for _ in range(300):
        started = time.perf_counter()
        await network.authorities.request(other.peer_id, "echo", b"x" * 100)
        times.append(time.perf_counter() - started)
    figures["request_p50_ms"] = sorted(times)[150] * 1e3
    times = []
    for _ in range(300):
        started = time.perf_counter()
        await network.authorities.send(other.peer_id, b"?" + b"x" * 1000)
        await answers.get()
        times.append(time.perf_counter() - started)
    figures["frame_round_trip_p50_ms"] = sorted(times)[150] * 1e3
    times = []
    for _ in range(100):
        started = time.perf_counter()
        await network._fallback.request(other.peer_id, "echo", b"x" * 100, timeout=5.0)
        times.append(time.perf_counter() - started)
    figures["libp2p_request_p50_ms"] = sorted(times)[50] * 1e3
    times, found = [], []
    for index in range(20):
        cid = Cid.of(b"provided %d" % index)
        started = time.perf_counter()
        await network.provide(cid)
        times.append(time.perf_counter() - started)
        absent = Cid.of(b"absent %d" % index)
        started = time.perf_counter()
        await network.find_providers(absent)
        found.append(time.perf_counter() - started)
    figures["provide_first_ms"] = times[0] * 1e3
    figures["provide_p50_ms"] = sorted(times)[10] * 1e3
    figures["find_absent_p50_ms"] = sorted(found)[10] * 1e3
    return figures


def run_node(number: int, pipe: Connection, small: bool) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(node(number, pipe, small))


def launch(
    count: int, small: bool = False
) -> tuple[list[Connection], list[PeerAddress], list[str], list[multiprocessing.Process]]:
    pipes, addresses, processes, cids = [], [], [], []
    bootstrap: tuple[str, ...] = ()
    for number in range(1, count + 1):
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=run_node, args=(number, theirs, small))
        process.start()
        ours.send(bootstrap)
        address, seconds, held = ours.recv()
        print(f"node {number} started in {seconds:.3f} s")
        bootstrap = (*bootstrap, f"{address.multiaddrs[0]}/p2p/{address.peer_id}")
        cids = cids or held
        pipes.append(ours)
        addresses.append(address)
        processes.append(process)
    return pipes, addresses, cids, processes


def stop(pipes: list[Connection], processes: list[multiprocessing.Process]) -> None:
    for pipe in pipes:
        pipe.send(("stop",))
    print("stopped in", [f"{pipe.recv():.3f} s" for pipe in pipes])
    for process in processes:
        process.join()


def link(pipes: list[Connection], addresses: list[PeerAddress]) -> None:
    for pipe in pipes:
        pipe.send(("authorities", addresses))
    for pipe in pipes:
        pipe.recv()


def main(what: str) -> None:
    multiprocessing.set_start_method("fork")
    load()
    if what == "transfer":
        compare()
        for small in (False, True):
            pipes, addresses, cids, processes = launch(2, small)
            with tempfile.TemporaryDirectory() as folder:
                for target in (None, None, None) if small else (None, None, None, folder, folder):
                    pipes[1].send(("fetch", addresses[0], cids, target))
                    speed, seconds = pipes[1].recv()
                    kind = "4 KiB blocks" if small else "1 MiB blocks"
                    how = "written and synced" if target else "hashed"
                    print(f"{kind}: {speed:.0f} MiB/s ({how}), receiver CPU {seconds:.2f} s")
            stop(pipes, processes)
        return
    pipes, addresses, _, processes = launch(4)
    link(pipes, addresses)
    if what == "idle":
        time.sleep(8)
        before = [_ask(pipe, "cpu") for pipe in pipes]
        time.sleep(20)
        after = [_ask(pipe, "cpu") for pipe in pipes]
        share = [(late[0] - early[0]) / 20 * 100 for early, late in zip(before, after, strict=True)]
        print("CPU % of a core:", [f"{value:.2f}" for value in share], f"in all {sum(share):.2f}")
        print("RSS MiB:", [f"{value[1]:.0f}" for value in after])
    else:
        pipes[3].send(("calls", addresses[0]))
        for name, value in pipes[3].recv().items():
            print(f"{name}: {value:.2f}")
        for pipe in pipes:
            _ask(pipe, "subscribe")
        time.sleep(2)
        for pipe in pipes[1:]:
            pipe.send(("heard", 200))
        pipes[0].send(("publish", 200, 0.02))
        pipes[0].recv()
        delays = []
        for pipe in pipes[1:]:
            delays += [late - float(data.split(b" ")[1].rstrip(b"\0")) for data, late in pipe.recv()]
        print(f"gossip: {len(delays)} of 600 heard")
    stop(pipes, processes)


def _ask(pipe: Connection, command: str) -> tuple[float, float]:
    pipe.send((command,))
    answer: tuple[float, float] = pipe.recv()
    return answer


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "calls")
