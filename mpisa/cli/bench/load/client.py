"""One client process of the bench: signs beforehand, then hands in on an open loop through the SDK.

It takes commands as JSON lines on stdin and answers each with one line on stdout. In an open loop transaction i is due
at start + i / rate whatever became of those before it, and its latency counts from then: a node that falls behind can't
hide it. With a `window` in place of a rate the loop is closed: as many as that wait at any time.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mpisa.cli.bench.load.work import Account, make_accounts, sign, sign_all
from mpisa.primitives.errors import MpisaError, Rejection
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.transaction import SignedTransaction
from mpisa.sdk import models
from mpisa.sdk.async_client import AsyncClient

DRAIN_S = 15.0
"""How long transactions that were sent in time may still become certified behind the end."""

NONCE_REQUESTS = 32
TICK_S = 0.005


@dataclass(frozen=True, slots=True)
class Task:
    """What one run sends: `mode` is single (one HTTP request each) or stream; either a rate or a window."""

    mode: str
    seconds: float
    count: int
    rate: float | None
    window: int
    operations: int


@dataclass(slots=True)
class Samples:
    """Latencies in ms from when a transaction was due; `in_time` counts those certified before the end."""

    sent: int = 0
    in_time: int = 0
    ordered: list[float] = field(default_factory=list)
    certified: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, Any]:
        return {
            "sent": self.sent,
            "in_time": self.in_time,
            "ordered": [round(value, 2) for value in self.ordered],
            "certified": [round(value, 2) for value in self.certified],
            "refused": dict(self.refused),
        }


class Loop:
    """When each transaction of a run is due, and what became of it."""

    def __init__(self, task: Task, start: float) -> None:
        self.start = start
        self.end = start + task.seconds
        self.samples = Samples()
        self._rate = task.rate
        self._room = task.window
        self._freed = asyncio.Event()

    async def due(self, number: int) -> float | None:
        """Waits until transaction `number` may go; the time it was due, None when the run is over."""
        if self._rate is not None:
            at = self.start + number / self._rate
            if at < self.end:
                await asyncio.sleep(max(0.0, at - time.perf_counter()))
        else:
            while not self._room:
                self._freed.clear()
                await self._freed.wait()
            self._room -= 1
            at = time.perf_counter()
        if at >= self.end:
            return None
        self.samples.sent += 1
        return at

    def due_now(self, number: int) -> float | None:
        """When transaction `number` was due, if it is by now and there is room."""
        if self._rate is not None:
            at = self.start + number / self._rate
        elif self._room:
            self._room -= 1
            at = time.perf_counter()
        else:
            return None
        if at >= self.end or at > time.perf_counter():
            return None
        self.samples.sent += 1
        return at

    def ordered(self, due: float) -> None:
        """The transaction that was due then is ordered now."""
        self.samples.ordered.append((time.perf_counter() - due) * 1000)

    def certified(self, due: float) -> None:
        """It is certified now."""
        now = time.perf_counter()
        self.samples.certified.append((now - due) * 1000)
        self.samples.in_time += now <= self.end
        self.finished()

    def refused(self, reason: str) -> None:
        """It was not taken, or the outcome isn't known."""
        self.samples.refused[reason] += 1
        self.finished()

    def finished(self) -> None:
        """Room for another one."""
        self._room += 1
        self._freed.set()


async def run_single(client: AsyncClient, signed: list[SignedTransaction], loop: Loop) -> None:
    """One HTTP request each. A request waits for one state, so they take turns: every tenth for `ordered`."""
    tasks: set[asyncio.Task[None]] = set()
    for number, item in enumerate(signed):
        due = await loop.due(number)
        if due is None:
            break
        wait = "ordered" if number % 10 == 9 else "certified"
        task = asyncio.create_task(_hand_in(client, item.raw, due, wait, loop))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        _, unfinished = await asyncio.wait(tasks, timeout=DRAIN_S)
        for task in unfinished:
            task.cancel()


async def _hand_in(client: AsyncClient, raw: bytes, due: float, wait: str, loop: Loop) -> None:
    try:
        outcome = await client.submit(raw, wait, DRAIN_S + max(loop.end - time.perf_counter(), 0.0))
        if outcome.status == "rejected":
            loop.refused((outcome.receipt.reason if outcome.receipt else None) or "rejected")
        elif wait == "ordered":
            loop.ordered(due)
            loop.samples.in_time += time.perf_counter() <= loop.end
            loop.finished()
        else:
            loop.certified(due)
    except MpisaError as error:
        loop.refused(error.reason.value if isinstance(error, Rejection) else error.code)


async def run_stream(client: AsyncClient, signed: list[SignedTransaction], loop: Loop) -> None:
    """All on one stream; what is due within a tick goes together."""
    due: list[float] = []

    async def source() -> AsyncIterator[list[bytes]]:
        number = 0
        while number < len(signed):
            first = await loop.due(number)
            if first is None:
                return
            ready = [signed[number].raw]
            due.append(first)
            number += 1
            while number < len(signed) and (at := loop.due_now(number)) is not None:
                due.append(at)
                ready.append(signed[number].raw)
                number += 1
            yield ready
            await asyncio.sleep(TICK_S)

    try:
        async with asyncio.timeout(loop.end - time.perf_counter() + DRAIN_S):
            async for answer in client.submit_stream(source(), "certified"):
                _count(answer, due, loop)
    except TimeoutError:
        return


def _count(answer: models.StreamAnswer, due: list[float], loop: Loop) -> None:
    for at in answer.transactions:
        if answer.status == "ordered":
            loop.ordered(due[at])
        elif answer.status == "certified":
            loop.certified(due[at])
        elif answer.status != "accepted":
            reason = answer.receipt.reason if answer.receipt else answer.problem and answer.problem.reason
            loop.refused(reason or (answer.problem.code if answer.problem else "rejected"))


Run = Callable[[AsyncClient, list[SignedTransaction], Loop], Awaitable[None]]
MODES: dict[str, Run] = {"single": run_single, "stream": run_stream}


class Worker:
    """The process: its client, its accounts and what it has signed for the next run."""

    def __init__(self, endpoint: str, home: str, seed: bytes, accounts: int, chain_hash: bytes) -> None:
        self._home = home
        self._client = AsyncClient(endpoint, home=home)
        self._accounts = make_accounts(seed, accounts)
        self._chain_hash = chain_hash
        self._signed: list[SignedTransaction] = []
        self._task: Task | None = None

    async def close(self) -> None:
        await self._client.close()

    async def turn_to(self, endpoint: str) -> dict[str, Any]:
        """Another node from now on."""
        if endpoint != self._client.endpoint:
            await self._client.close()
            self._client = AsyncClient(endpoint, home=self._home)
        return {}

    def addresses(self) -> dict[str, Any]:
        """Who is to be funded."""
        return {"addresses": [format_address(account.key.public_key.address) for account in self._accounts]}

    async def show_keys(self) -> dict[str, Any]:
        """Puts every account's key on file: its first transaction shows it."""
        slots = asyncio.Semaphore(NONCE_REQUESTS)

        async def first(at: int) -> None:
            async with slots:
                raw = sign(self._accounts, at, self._chain_hash, show_key=True).raw
                await self._client.submit(raw, "certified", 60.0)

        await asyncio.gather(*(first(at) for at in range(len(self._accounts))))
        return {}

    async def prepare(self, task: Task) -> dict[str, Any]:
        """Signs what the run will send; how long a signature took, with encoding, in CPU microseconds."""
        slots = asyncio.Semaphore(NONCE_REQUESTS)

        async def look(account: Account) -> None:
            async with slots:
                address = format_address(account.key.public_key.address)
                account.nonce = (await self._client.account(address)).pending_nonce

        await asyncio.gather(*(look(account) for account in self._accounts))
        begun = time.process_time()
        self._task = task
        self._signed = sign_all(self._accounts, task.count, self._chain_hash, task.operations)
        return {"sign_us": (time.process_time() - begun) / max(task.count, 1) * 1e6}

    async def run(self, at: float) -> dict[str, Any]:
        """Starts at this wall-clock time; samples, and the CPU time this process used for the run."""
        assert self._task is not None
        await asyncio.sleep(max(0.0, at - time.time()))
        loop = Loop(self._task, time.perf_counter())
        begun = time.process_time()
        await MODES[self._task.mode](self._client, self._signed, loop)
        self._signed = []
        return loop.samples.to_json() | {"cpu_s": time.process_time() - begun}


async def serve() -> None:
    """Answers commands until stdin ends."""
    reader = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    hello = json.loads(await reader.readline())
    worker = Worker(
        hello["endpoint"],
        hello["home"],
        bytes.fromhex(hello["seed"]),
        hello["accounts"],
        bytes.fromhex(hello["chain_hash"]),
    )
    try:
        _answer(worker.addresses())
        while line := await reader.readline():
            command = json.loads(line)
            if command["do"] == "turn-to":
                _answer(await worker.turn_to(command["endpoint"]))
            elif command["do"] == "show-keys":
                _answer(await worker.show_keys())
            elif command["do"] == "prepare":
                _answer(await worker.prepare(Task(**command["task"])))
            else:
                _answer(await worker.run(command["at"]))
    finally:
        await worker.close()


def _answer(body: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Entry of the process."""
    import gc

    import uvloop

    gc.freeze()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())
