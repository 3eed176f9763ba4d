"""A campaign: kill, judge, go on in the same home, and begin a new one now and then.

Where a kill falls is drawn from a seed, as is what is killed; processes take their own time, so a seed names a campaign
but doesn't repeat it to the microsecond. A kill may fall while a store is opened, too.
"""

import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mpisa.cli.bench.machine import devnet
from mpisa.sdk.client import Client
from storage.importer import cid_of_path
from tests.storage.campaign import victims
from tests.storage.campaign.forks import Fork, ask
from tests.storage.campaign.judge import Promises, judge
from tests.storage.campaign.nodes import NODE, Nodes
from tests.storage.campaign.summary import Run

COLLECT = "collect and compact"
STORE_KINDS = {"put": victims.put, "import CAR": victims.bring, COLLECT: victims.collect}
COMMANDS = ("get command", "put command")
WEIGHTS = {"put": 3, "import CAR": 2, COLLECT: 4, "get command": 2, "put command": 1}
KILLS_A_HOME = 8
KILLS_A_NODE = 25
"""One of so many kills is a node's, where the campaign has a node of its own: it has to start again."""

STORE_SECONDS = {"put": 0.3, "import CAR": 0.3, COLLECT: 0.3}
RETIRED = 3
"""A collector has retired fewer packs than that before its moment comes."""

LONGEST_SECONDS = 2.0
OPENING_SHARE = 0.2
OPENING_SECONDS = 0.05
COMMAND_SECONDS = 120.0
FILES = 12
FILE_BYTES = 1_500_000
NUMBERS_A_KILL = 10_000
MAX_PEAK_MIB = 256

Say = Callable[[str], None]
Node = tuple[Path, str]
"""The home that has its token, and where its API is."""


class Campaign:
    """One run in a directory of its own."""

    def __init__(self, place: Path, run: Run, say: Say) -> None:
        self._place = place
        self._run = run
        self._say = say
        self._rng = random.Random(run.seed)
        self._homes: dict[str, tuple[Path, Promises, int]] = {}
        self._next = 0

    def kill(self, count: int, node: Node | None) -> None:
        """Kill so many processes, judging after each. Every finding is in the run. Commands ask `node`, or one that
        is started for them.
        """
        begun = time.monotonic()
        kinds = self._draw(count, (NODE,) * (0 if node is not None else count // KILLS_A_NODE))
        for kind in kinds:
            if kind in STORE_KINDS:
                self._kill_store(kind)
        commands = [kind for kind in kinds if kind in COMMANDS]
        if commands and node is not None:
            Commands(self._place, node, self._run, self._rng).kill(commands)
        elif commands:
            with devnet(self._place / "net", 1) as (network, _seconds):
                Commands(self._place, (network.home, network.apis[0]), self._run, self._rng).kill(commands)
                Nodes(self._place, network, self._run, self._rng).kill(kinds.count(NODE))
        self._run.seconds = round(time.monotonic() - begun, 1)

    def _draw(self, count: int, others: Sequence[str]) -> list[str]:
        """Each kind by its weight, in a random order, and others."""
        whole = [kind for kind, weight in WEIGHTS.items() for _ in range(weight)]
        kinds = (whole * (count // len(whole) + 1))[: count - len(others)] + list(others)
        self._rng.shuffle(kinds)
        return kinds

    def _kill_store(self, kind: str) -> None:
        home, promises, kills = self._homes.get(kind, (self._place / f"home-{self._next}", Promises(), 0))
        home.mkdir(exist_ok=True)
        prints = home / "prints"
        first, self._next = self._next * NUMBERS_A_KILL, self._next + 1
        before = promises.collections, promises.packs_retired
        promises.is_open = False
        fork = Fork(lambda say: STORE_KINDS[kind](home, first, sorted(promises.pinned), say), prints)
        if self._moment(kind, fork, promises):
            promises.findings.append(f"it ended by itself: {prints.read_text()[-500:]}")
        else:
            fork.kill(promises.hear)
            self._run.count(kind)
            self._run.peak_mib = max(self._run.peak_mib, fork.peak >> 20)
        try:
            found = promises.findings + ask(lambda: judge(home, promises), prints)
        except RuntimeError as error:
            found = [*promises.findings, f"the store can't be judged: {error}"]
        self._run.collections += promises.collections - before[0]
        self._run.packs_retired += promises.packs_retired - before[1]
        over = kills + 1 == KILLS_A_HOME or bool(found)
        if found:
            self._run.findings += [f"{kind}: {text}" for text in found]
            self._say(f"{home}, kept to be looked at: {found}")
        if over:
            self._run.acknowledged += promises.count
            self._homes.pop(kind, None)
            if not found:
                shutil.rmtree(home)
        else:
            self._homes[kind] = home, promises, kills + 1

    def _moment(self, kind: str, fork: Fork, promises: Promises) -> bool:
        """Wait for the moment of the kill: while the store is opened, or at work. True when the process has ended."""
        if self._rng.random() < OPENING_SHARE:
            return fork.listen(self._rng.uniform(0.0, OPENING_SECONDS), promises.hear)
        retired = promises.packs_retired + (self._rng.randrange(RETIRED) if kind == COLLECT else 0)
        deadline = time.monotonic() + LONGEST_SECONDS
        while not promises.is_open or (promises.packs_retired < retired and time.monotonic() < deadline):
            if fork.listen(OPENING_SECONDS, promises.hear):
                return True
        return fork.listen(self._rng.uniform(0.0, STORE_SECONDS[kind]), promises.hear)

    def close(self) -> None:
        """Count what the last homes promised."""
        self._run.acknowledged += sum(promises.count for _, promises, _ in self._homes.values())
        self._homes.clear()


class Commands:
    """`mpisa get` and `mpisa put`, killed and then run again to their end at the same node."""

    def __init__(self, place: Path, node: Node, run: Run, rng: random.Random) -> None:
        self._place = place
        self._home, self._api = node
        self._run = run
        self._rng = rng
        self._prints = place / "prints"

    def kill(self, kinds: list[str]) -> None:
        """One kill for each; a command that was faster than its kill is run again."""
        tree = self._tree("source")
        self._done(lambda say: victims.send(self._home, self._api, tree, say))
        cid = str(cid_of_path(tree))
        target = self._place / "got"
        begun = time.monotonic()
        self._done(lambda say: victims.fetch(self._home, self._api, cid, target, say))
        seconds = time.monotonic() - begun
        shutil.rmtree(target)
        for number, kind in enumerate(kinds):
            if kind == "get command":
                self._get(cid, tree, target, seconds)
            else:
                self._put(number, seconds)
            self._run.count(kind)
            self._run.acknowledged += 1

    def _get(self, cid: str, tree: Path, target: Path, seconds: float) -> None:
        def work(say: victims.Say) -> None:
            victims.fetch(self._home, self._api, cid, target, say)

        while not self._killed(work, seconds):
            self._expect_equal(tree, target)
            shutil.rmtree(target)
        if target.exists():  # killed between the last byte and the exit
            self._expect_equal(tree, target)
            shutil.rmtree(target)
        self._done(work)
        self._expect_equal(tree, target)
        shutil.rmtree(target)
        left = sorted(path.name for path in self._place.glob("*mpisa-part*"))
        if left:
            self._run.findings.append(f"get command: {left} are left after it was finished")

    def _put(self, number: int, seconds: float) -> None:
        while True:
            tree = self._tree(f"tree-{number}")
            cid = str(cid_of_path(tree))

            def work(say: victims.Say, tree: Path = tree) -> None:
                victims.send(self._home, self._api, tree, say)

            killed = self._killed(work, seconds)
            self._done(work)
            damage = ask(lambda: self._check(cid), self._prints)  # noqa: B023 - asked at once
            if damage:
                self._run.findings.append(f"put command: {damage}")
            shutil.rmtree(tree)
            if killed:
                return

    def _check(self, cid: str) -> str:
        with Client(self._api, home=self._home) as client:
            found = client.check(cid)
            pinned = client.pins_of(cid)
        if found.damaged or found.missing or not pinned:
            return f"{cid}: {found}, pins {pinned}"
        return ""

    def _killed(self, work: Callable[[victims.Say], None], seconds: float) -> bool:
        """Whether it was killed before it ended, at a random moment. One that ends by itself must succeed."""
        said: list[tuple[object, ...]] = []
        fork = Fork(work, self._prints)
        if fork.listen(self._rng.uniform(0.0, seconds), lambda *what: said.append(what)):
            if ("ended", 0) not in said:
                self._run.findings.append(f"a command ended with {said}: {self._prints.read_text()[-500:]}")
            return False
        fork.kill(lambda *what: said.append(what))
        self._run.peak_mib = max(self._run.peak_mib, fork.peak >> 20)
        return True

    def _done(self, work: Callable[[victims.Say], None]) -> None:
        said: list[tuple[object, ...]] = []
        fork = Fork(work, self._prints)
        if not fork.listen(COMMAND_SECONDS, lambda *what: said.append(what)):
            fork.kill(lambda *what: said.append(what))
        if ("ended", 0) not in said:
            self._run.findings.append(f"a command that nobody killed: {said}: {self._prints.read_text()[-500:]}")

    def _expect_equal(self, tree: Path, target: Path) -> None:
        if _contents(tree) != _contents(target):
            self._run.findings.append(f"get command: {target} isn't what was stored")

    def _tree(self, name: str) -> Path:
        tree = self._place / name
        (tree / "inner").mkdir(parents=True)
        for number in range(FILES):
            count = self._rng.randrange(FILE_BYTES)
            (tree / ("inner" if number % 2 else ".") / f"{number}").write_bytes(self._rng.randbytes(count))
        return tree


def _contents(tree: Path) -> dict[str, bytes]:
    return {str(path.relative_to(tree)): path.read_bytes() for path in sorted(tree.rglob("*")) if path.is_file()}


def campaign(place: Path, run: Run, count: int, say: Say, node: Node | None = None) -> None:
    """Kill `count` processes below `place`; what came of it is in `run`."""
    place.mkdir(parents=True, exist_ok=True)
    os.environ.pop("MPISA_HOME", None)
    work = Campaign(place, run, say)
    work.kill(count, node)
    work.close()
    if run.peak_mib > MAX_PEAK_MIB:
        run.findings.append(f"a process had {run.peak_mib} MiB")
