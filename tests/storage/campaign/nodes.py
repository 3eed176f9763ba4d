"""Killing the node itself while clients put, unpin and let it collect: what any client was told must hold then."""

import os
import random
import signal
import time
from itertools import count
from pathlib import Path

from devnet.state import require_manifest
from mpisa.cli.bench.machine import Devnet, timed
from mpisa.primitives.errors import MpisaError
from mpisa.sdk.client import Client
from tests.storage.campaign.forks import Fork, ask
from tests.storage.campaign.summary import Run
from tests.storage.campaign.victims import Say

CLIENTS = 2
LONGEST_SECONDS = 2.0
PUTS_KEPT = 5
MAX_FILE_BYTES = 3_000_000
NODE = "node"


class Nodes:
    """The only node of a devnet, killed and started again."""

    def __init__(self, place: Path, network: Devnet, run: Run, rng: random.Random) -> None:
        self._place = place
        self._network = network
        self._run = run
        self._rng = rng
        self._pinned: set[str] = set()
        self._prints = place / "prints"

    def kill(self, kills: int) -> None:
        """So many kills, each judged when the node runs again."""
        for _ in range(kills):
            seeds = [self._rng.randrange(1 << 40) for _ in range(CLIENTS)]
            works = [lambda say, seed=seed: self._client(seed, say) for seed in seeds]
            forks = [Fork(work, self._prints) for work in [*works, self._collector]]
            deadline = time.monotonic() + self._rng.uniform(0.0, LONGEST_SECONDS)
            while (left := deadline - time.monotonic()) > 0:
                for fork in forks:
                    fork.listen(min(left, 0.01), self._hear)
            os.kill(self._pid(), signal.SIGKILL)
            for fork in forks:
                fork.kill(self._hear)
            self._run.count(NODE)
            timed("-m", "mpisa.cli", "devnet", "up", "--home", str(self._network.home), "--detach", "--quiet")
            self._run.findings += [f"{NODE}: {text}" for text in ask(self._judge, self._prints)]
            self._run.acknowledged += len(self._pinned)

    def _pid(self) -> int:
        pid = require_manifest(self._network.home).nodes[0].pid
        assert pid is not None
        return pid

    def _hear(self, what: str, *details: str) -> None:
        if what == "pinned":
            self._pinned.update(details)
        elif what == "unpinning":
            self._pinned.difference_update(details)

    def _client(self, seed: int, say: Say) -> None:
        """Puts files, keeps the last few; ends when the node does."""
        rng = random.Random(seed)
        path = self._place / f"file-{seed}"
        held: list[str] = []
        try:
            with Client(self._network.apis[0], home=self._network.home) as client:
                for _ in count():
                    path.write_bytes(rng.randbytes(rng.randrange(1, MAX_FILE_BYTES)))
                    cid = client.put(path).cid
                    say("pinned", cid)
                    held.append(cid)
                    if len(held) > PUTS_KEPT:
                        say("unpinning", held[0])
                        client.unpin(held.pop(0))
        except MpisaError:
            return  # the node is gone
        finally:
            path.unlink(missing_ok=True)

    def _collector(self, _say: Say) -> None:
        try:
            with Client(self._network.apis[0], home=self._network.home) as client:
                while True:
                    client.collect()
        except MpisaError:
            return

    def _judge(self) -> list[str]:
        with Client(self._network.apis[0], home=self._network.home) as client:
            found = []
            for cid in sorted(self._pinned):
                checked = client.check(cid)
                if checked.damaged or checked.missing or not client.pins_of(cid):
                    found.append(f"{cid}: {checked}, pins {client.pins_of(cid)}")
            return found
