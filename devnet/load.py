"""Load for a chaos run: each account hands in one transfer after another, at nodes drawn at random, and writes down
what was acknowledged.

Acknowledged means that some node said "certified". Until then the same bytes are handed in again, at another node each
time, as a careful client does: nodes come and go, and a transaction counts once however often it was handed in. Now and
then the same bytes go to two nodes at once on purpose. Each acknowledgement is one JSON line in a file. Changes of the
validator set (`changes`) are handed in and written down in the same way.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TextIO, TypeVar

from devnet.changes import Changes
from devnet.state import Manifest
from mpisa.primitives.errors import MpisaError, NotFound
from mpisa.primitives.genesis import Genesis
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.key_file import decode_key_file
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.operations import Operation, Transfer
from mpisa.primitives.transaction import SignedTransaction, Transaction, sign_transaction
from mpisa.sdk.async_client import AsyncClient

ANSWER_S = 4.0
"""How long a node may take to say certified before another one is asked."""
PAUSE_S = 0.05
TWICE = 0.1
"""The share of transactions that two nodes get at once."""
VALIDITY_MS = 6 * 3_600_000
SETTLE_S = 120.0
"""How long what was handed in may still take behind the end."""

_T = TypeVar("_T")


class _Load:
    def __init__(self, manifest: Manifest, seed: int, out: TextIO, *, with_changes: bool) -> None:
        self._out = out
        self._random = random.Random(seed)  # noqa: S311 - a seed that replays
        self._clients = {
            node.name: AsyncClient(node.api, home=manifest.home, timeout=ANSWER_S + 1) for node in manifest.nodes
        }
        genesis = Genesis.from_json((manifest.home / "genesis.json").read_text(encoding="utf-8"))
        self._chain_hash = genesis.chain_hash
        self._keys = [decode_key_file(account.key_file.read_bytes(), None) for account in manifest.accounts]
        self.stopping = asyncio.Event()
        self._nonces: dict[int, int] = {}
        self._locks = [asyncio.Lock() for _ in self._keys]
        self._changes = Changes(manifest.nodes, seed, self, self._chain_hash) if with_changes else None

    async def run(self) -> None:
        """Until told to stop and everything handed in is acknowledged, or SETTLE_S after."""
        tasks = [asyncio.create_task(self._account(number)) for number in range(len(self._keys))]
        if self._changes is not None:
            tasks.append(asyncio.create_task(self._changes.run()))
        await self.stopping.wait()
        done, late = await asyncio.wait(tasks, timeout=SETTLE_S)
        for task in late:
            task.cancel()
        for client in self._clients.values():
            await client.close()
        for task in done:
            task.result()

    async def _account(self, number: int) -> None:
        to = self._keys[(number + 1) % len(self._keys)].public_key.address
        while not self.stopping.is_set():
            await self._transfer(number, to, 1)

    async def _transfer(self, number: int, to: Address, amount: int) -> None:
        key = self._keys[number]
        async with self._locks[number]:
            if number not in self._nonces:
                self._nonces[number] = await self.next_nonce(format_address(key.public_key.address))
            await self.send(key, self._nonces[number], (Transfer(to, amount),), {})
            self._nonces[number] += 1

    async def fund(self, to: Address, amount: int) -> None:
        """See `changes.Hands`: from the first account, between its other transfers."""
        await self._transfer(0, to, amount)

    async def send(
        self, key: PrivateKey, nonce: int, operations: tuple[Operation, ...], what: Mapping[str, object]
    ) -> int:
        """See `changes.Hands`; each is written down before and after, with `what`."""
        signed = self._sign(key, nonce, operations)
        self._write({"sent": signed.hash.hex()})
        begun = time.monotonic()
        said = await self._until_certified(signed)
        who = {"account": format_address(key.public_key.address), "nonce": nonce}
        self._write({**said, **who, **what, "seconds": round(time.monotonic() - begun, 3)})
        return int(str(said["height"]))

    async def _until_certified(self, signed: SignedTransaction) -> dict[str, object]:
        name = signed.hash.hex()
        attempts = 0
        while True:
            attempts += 1
            node = self._draw()
            if self._random.random() < TWICE:
                await self._hand_in_quietly(signed)
            try:
                found = await self._clients[node].submit(signed.raw, "certified", ANSWER_S)
            except MpisaError:
                await asyncio.sleep(PAUSE_S)
                continue
            if found.status in ("certified", "rejected"):
                return {
                    "acknowledged": name,
                    "status": found.status,
                    "height": found.height,
                    "node": node,
                    "attempts": attempts,
                }

    async def _hand_in_quietly(self, signed: SignedTransaction) -> None:
        try:
            await self._clients[self._draw()].submit(signed.raw, "accepted", ANSWER_S)
        except MpisaError:
            return

    async def next_nonce(self, address: str) -> int:
        """See `changes.Hands`."""
        try:
            return (await self.ask(lambda client: client.account(address))).pending_nonce
        except NotFound:
            return 0

    async def ask(self, read: Callable[[AsyncClient], Awaitable[_T]]) -> _T:
        """See `changes.Hands`: the first answer of nodes drawn at random. Raises NotFound."""
        while True:
            try:
                return await read(self._clients[self._draw()])
            except NotFound:
                raise
            except MpisaError:
                await asyncio.sleep(PAUSE_S)

    def _draw(self) -> str:
        return self._random.choice(sorted(self._clients))

    def _sign(self, key: PrivateKey, nonce: int, operations: tuple[Operation, ...]) -> SignedTransaction:
        expires = time.time_ns() // 1_000_000 + VALIDITY_MS
        body = Transaction(
            self._chain_hash, key.public_key.address, nonce, expires, operations, public_key=key.public_key
        )
        return sign_transaction(body, key)

    def _write(self, line: dict[str, object]) -> None:
        self._out.write(json.dumps(line) + "\n")
        self._out.flush()


def serve(manifest: Manifest, seed: int, path: Path, *, with_changes: bool) -> None:
    """Runs in a process of its own until SIGTERM."""

    async def main() -> None:
        with path.open("w", encoding="utf-8") as out:
            load = _Load(manifest, seed, out, with_changes=with_changes)
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, load.stopping.set)
            await load.run()

    asyncio.run(main())


def read(path: Path) -> tuple[int, list[dict[str, object]]]:
    """How many transactions were made, and the acknowledgements."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return sum("sent" in line for line in lines), [line for line in lines if "acknowledged" in line]
