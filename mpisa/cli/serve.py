"""Running one node in this process: the node and its HTTP API under one event loop, until SIGTERM or SIGINT.

Importing this module imports everything a node needs (seconds): only `node run` and the parent of a devnet do.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from mpisa.api.server import ApiServer
from mpisa.cli.failures import repairable
from mpisa.cli.settings import given_passphrase
from mpisa.network import libp2p_host
from mpisa.node.node import Node
from mpisa.primitives.errors import MpisaError, StoreDamaged

SWITCH_S = 0.001
"""How long a thread may keep the interpreter while another wants it."""

GC_YOUNG_OBJECTS, GC_YOUNG_RUNS, GC_MIDDLE_RUNS = 20_000, 20, 50
"""New objects before the collector looks at the young ones, and how many such runs before it looks further."""


async def _serve(home: Path, started: Callable[[str], None]) -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    node = Node.open(home, passphrase=given_passphrase())
    server = ApiServer(node)
    try:
        await node.start()
        node.api_url = await server.start()
        _settle()
        started(node.api_url)
        await _until_told_or_ended(told, node)
    finally:
        await server.stop()
        await node.stop()


def _settle() -> None:
    """The loop must not wait long for a thread that executes a block: rounds would wait with it."""
    sys.setswitchinterval(SWITCH_S)
    _settle_collector()


def _settle_collector() -> None:
    """What a node holds now it holds for good: the collector needn't look at it again, and may look less often.

    By its defaults it walks the whole heap while transactions come in, which costs a tenth of the time and shows in the
    slowest answers.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, GC_YOUNG_RUNS, GC_MIDDLE_RUNS)


async def _until_told_or_ended(told: asyncio.Event, node: Node) -> None:
    """Return when a signal came; when the node ends by itself, raise what ended it."""
    signalled, ended = asyncio.create_task(told.wait()), asyncio.create_task(node.wait())
    await asyncio.wait((signalled, ended), return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if ended.done():
        ended.result()
    ended.cancel()


def serve_node(home: Path, started: Callable[[str], None]) -> None:
    """Run the node of `home` until a signal ends it, cleanly; `started` gets its URL. Raises MpisaError."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(home, started))
    except StoreDamaged as error:
        raise repairable(error, home) from None


def preload() -> None:
    """Import what a node would import later: done once in the parent, it is shared by every node forked from it."""
    libp2p_host.load()


def serve_forked(home: Path) -> None:
    """The same as the root of a forked process: a known failure is one line on stderr, not a traceback."""
    try:
        serve_node(home, lambda _url: None)
    except MpisaError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
