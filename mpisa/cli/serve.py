"""Running one node in this process: the node and its HTTP API under one event loop, until SIGTERM or SIGINT.

Importing this module imports everything a node needs (seconds): only `node run` and the parent of a devnet do.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import uvloop

from mpisa.api.server import ApiServer
from mpisa.node.node import Node
from mpisa.primitives.errors import MpisaError


async def _serve(home: Path, started: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    node = Node.open(home)
    server = ApiServer(node)
    await node.start()
    try:
        started(await server.start())
        try:
            await stop.wait()
        finally:
            await server.stop()
    finally:
        await node.stop()


def serve_node(home: Path, started: Callable[[str], None]) -> None:
    """Run the node of `home` until a signal ends it, cleanly; `started` gets its URL. Raises MpisaError."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(home, started))


def serve_forked(home: Path) -> None:
    """The same as the root of a forked process: a known failure is one line on stderr, not a traceback."""
    try:
        serve_node(home, lambda _url: None)
    except MpisaError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
