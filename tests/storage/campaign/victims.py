"""What is killed: processes that put, import, collect and fetch, and say so whenever something is promised.

Each runs in a fork of the campaign's process, which has loaded the code and opened no store. It acknowledges through a
pipe, in lines of JSON that are written whole; what it had said before it died counts. All data comes from numbers, so
that the judge can make it again.
"""

import io
import json
import os
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from hashlib import shake_256
from pathlib import Path
from typing import Any

import aiohttp  # noqa: F401 - what a command loads is loaded before it is forked

import mpisa.cli.artefacts
import mpisa.sdk.client
import mpisa.sdk.download
import mpisa.sdk.models
import mpisa.sdk.upload  # noqa: F401
from mpisa.cli.main import run
from mpisa.primitives.car_stream import encode_car_header, encode_car_section
from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from storage.car import import_car
from storage.gc import Collector
from storage.packs import DiskBlockStore
from storage.pins import PinStore

PACK_BYTES = 200_000
"""Small, so that packs are finished, retired and rewritten all the time."""

LANES = 3
GARBAGE = 4
"""Blocks that nobody wants, with each DAG."""

KEPT_PINS = 2
"""A lane unpins the oldest beyond so many."""

Block = tuple[Cid, bytes]
Say = Callable[..., None]


def dag(number: int) -> list[Block]:
    """A root and its leaves; the root comes last. Some leaves are those of other numbers too."""
    leaves = [_leaf(number * 100 + at) for at in range(1 + number % 12)] + [_leaf(number % 7)]
    data = encode_node(PBNode(tuple(PBLink(cid.to_bytes(), "", 0) for cid, _ in leaves), number.to_bytes(8, "big")))
    return [*leaves, (Cid.of(data, codec=DAG_PB), data)]


def _leaf(number: int) -> Block:
    data = shake_256(number.to_bytes(8, "big")).digest(1 + number * 37 % 20_000)
    return Cid.of(data), data


def car(number: int) -> bytes:
    """The same as a CAR."""
    blocks = dag(number)
    sections = [encode_car_section(cid, len(data)) + data for cid, data in reversed(blocks)]
    return encode_car_header([blocks[-1][0]]) + b"".join(sections)


def speaker(descriptor: int) -> Say:
    """Says things through a pipe; each line is written whole, from any thread."""

    def say(what: str, *details: Any) -> None:
        os.write(descriptor, json.dumps([what, *details]).encode() + b"\n")

    return say


def put(home: Path, first: int, _pinned: Iterable[int], say: Say) -> None:
    """Put DAGs from several threads, for ever."""
    store = DiskBlockStore.open(home / "store", max_pack_bytes=PACK_BYTES)
    say("open")

    def lane(number: int) -> None:
        for at in _numbers(first, number):
            store.put(dag(at))
            say("stored", at)

    _for_ever(lane)


def bring(home: Path, first: int, _pinned: Iterable[int], say: Say) -> None:
    """Import CARs from several threads, for ever."""
    store = DiskBlockStore.open(home / "store", max_pack_bytes=PACK_BYTES)
    say("open")

    def lane(number: int) -> None:
        for at in _numbers(first, number):
            (root,) = import_car(store, io.BytesIO(car(at)))
            assert root == dag(at)[-1][0]
            say("stored", at)

    _for_ever(lane)


def collect(home: Path, first: int, pinned: Iterable[int], say: Say) -> None:
    """Collect garbage without a pause while DAGs are put, pinned, read and unpinned."""
    store = DiskBlockStore.open(home / "store", max_pack_bytes=PACK_BYTES)
    pins = PinStore(home / "pins")
    say("open")

    def lane(number: int) -> None:
        held = [at for at in pinned if at % LANES == number]
        for at in _numbers(first, number):
            blocks = dag(at)
            store.put([_leaf(at * 100 + 50 + number) for number in range(GARBAGE)])
            with store.lease("campaign"):
                store.put(blocks)
                pins.pin(blocks[-1][0])
            say("pinned", at)
            held.append(at)
            while len(held) > KEPT_PINS:
                goes = held.pop(0)
                say("unpinning", goes)
                pins.unpin(dag(goes)[-1][0])
            for cid, data in dag(random.choice(held)):
                if store.get(cid) != data:
                    say("wrong", str(cid))

    def collector() -> None:
        collecting = Collector(store, pins, clock=time.time, scratch=home / "marks")
        while True:
            report = collecting.run(grace_s=0.0, dead_share=0.05)
            say("collected", report.packs_removed, report.packs_rewritten)

    _for_ever(lane, collector)


def fetch(home: Path, api: str, cid: str, target: Path, say: Say) -> None:
    """`mpisa get` of a directory."""
    _command(say, "get", cid, "--output", target, "--home", home, "--endpoint", api)


def send(home: Path, api: str, tree: Path, say: Say) -> None:
    """`mpisa put` of a directory."""
    _command(say, "put", tree, "--home", home, "--endpoint", api)


def _command(say: Say, *words: Any) -> None:
    say("open")
    say("ended", run([*map(str, words), "--quiet"]))


def _numbers(first: int, lane: int) -> Iterator[int]:
    number = first + lane
    while True:
        yield number
        number += LANES


def _for_ever(lane: Callable[[int], None], *others: Callable[[], None]) -> None:
    """Run until killed; a thread that fails ends the process with code 1, which the campaign notices."""

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException:  # noqa: BLE001 - a thread's root
            traceback.print_exc()
            os._exit(1)

    works = [*others, *[lambda number=number: lane(number) for number in range(LANES)]]
    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
