"""Any order of puts, pins, leases, reads, collections and power cuts: what must be there is there, what must go goes.

The model knows which blocks exist, which pins are set and what each open lease protects. A power cut comes at any file
operation of a put or of a collection and leaves what such a cut leaves (see crashing.py).
"""

import random
import shutil
import tempfile
import time
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import PBLink, PBNode, encode_node
from mpisa.primitives.errors import NotFound
from storage import compaction
from storage.blockstore import QuotaExceeded
from storage.gc import Collector, GcReport
from storage.leases import Lease
from storage.packs import DiskBlockStore
from storage.pins import PinKind, PinReason, PinStore
from tests.storage.crashing import Machine, PowerCut
from tests.storage.test_packs import block

LEAVES = [block(number, 40 + 37 * number) for number in range(12)]


def _node(*children: tuple[Cid, bytes]) -> tuple[Cid, bytes]:
    data = encode_node(PBNode(tuple(PBLink(cid.to_bytes(), "", 0) for cid, _ in children), b""))
    return Cid.of(data, codec=DAG_PB), data


INNER = [_node(*LEAVES[0:4]), _node(*LEAVES[2:7])]
TOP = _node(*INNER, LEAVES[11])
TREES = {TOP[0]: [TOP, *INNER, *LEAVES[0:7], LEAVES[11]], INNER[0][0]: [INNER[0], *LEAVES[0:4]]}
BLOCKS = dict([*LEAVES, *INNER, TOP])

numbers = st.lists(st.integers(0, len(LEAVES) - 1), min_size=1, max_size=5, unique=True)


class StoreMachine(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="mpisa-gc-"))
        self.rng = random.Random(1)
        self.lives = 0
        self.pins = PinStore(self.place / "pins")
        self.pinned: dict[Cid, set[Cid]] = {}
        self.there: set[Cid] = set()
        self.unsure: set[Cid] = set()
        """What may be there or not: what a cut or a stopped collection left."""
        self.leases: list[tuple[Lease, set[Cid]]] = []
        self.max_bytes = 9_000
        self.slice_blocks = compaction.SLICE_BLOCKS
        compaction.SLICE_BLOCKS = 3
        self.open()

    @property
    def path(self) -> Path:
        return self.place / f"life{self.lives}"

    def open(self) -> None:
        self.machine = Machine(self.rng)
        self.store = DiskBlockStore.open(self.path, files=self.machine, max_bytes=self.max_bytes, max_pack_bytes=1_100)
        self.machine.watch(self.store._index.database)
        self.collector = Collector(self.store, self.pins, clock=time.time)

    def teardown(self) -> None:
        compaction.SLICE_BLOCKS = self.slice_blocks
        self.store.close()
        self.pins.close()
        shutil.rmtree(self.place)

    def must(self) -> set[Cid]:
        """What pins keep and leases protect, of what was there when they were set."""
        return set().union(*self.pinned.values(), *(touched for _, touched in self.leases))

    def touch(self, cids: set[Cid]) -> None:
        for _, touched in self.leases:
            touched |= cids

    def put(self, blocks: list[tuple[Cid, bytes]]) -> bool:
        try:
            self.store.put(blocks)
        except QuotaExceeded:
            return False
        cids = {cid for cid, _ in blocks}
        self.there |= cids
        self.unsure -= cids
        self.touch(cids)
        return True

    @rule(chosen=numbers)
    def put_leaves(self, chosen: list[int]) -> None:
        self.put([LEAVES[number] for number in chosen])

    @rule(root=st.sampled_from(sorted(TREES)))
    def put_and_pin_a_tree(self, root: Cid) -> None:
        with self.store.lease("tree"):
            if self.put(TREES[root]):
                self.pins.pin(root, reason=PinReason.PUBLISH)
                self.pinned[root] = {cid for cid, _ in TREES[root]}

    @rule(number=st.integers(0, len(LEAVES) - 1))
    def pin_a_block(self, number: int) -> None:
        cid = LEAVES[number][0]
        with self.store.lease("pin"):
            if self.store.has(cid):
                self.touch({cid})
                self.pins.pin(cid, PinKind.DIRECT)
                self.pinned[cid] = {cid}

    @precondition(lambda self: self.pinned)
    @rule(data=st.data())
    def unpin(self, data: st.DataObject) -> None:
        cid = data.draw(st.sampled_from(sorted(self.pinned)))
        self.pins.unpin(cid)
        del self.pinned[cid]

    @precondition(lambda self: len(self.leases) < 3)
    @rule()
    def open_a_lease(self) -> None:
        self.leases.append((self.store.lease("work"), set()))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def close_a_lease(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.leases) - 1))
        self.leases.pop(number)[0].release()

    @rule(number=st.integers(0, len(LEAVES) - 1))
    def read(self, number: int) -> None:
        cid, content = LEAVES[number]
        try:
            assert self.store.get(cid) == content
        except NotFound:
            assert cid not in self.must()
            assert cid not in self.there - self.unsure
        else:
            assert cid in self.there | self.unsure
            self.touch({cid})

    def collect(self, **options: object) -> GcReport:
        return self.collector.run(grace_s=0.0, dead_share=0.0, **options)  # type: ignore[arg-type]

    @rule()
    def collect_all(self) -> None:
        report = self.collect()
        assert report.missing == ()
        found = set(self.store.cids())
        assert self.must() <= found <= self.there | self.unsure
        if not self.leases and not report.stopped:
            assert found == self.must()
        self.there, self.unsure = (found, set()) if not report.stopped else (found, self.unsure & found)

    @rule(asked=st.integers(0, 30))
    def collect_in_part(self, asked: int) -> None:
        left = [asked]

        def stop() -> bool:
            left[0] -= 1
            return left[0] < 0

        self.collect(stop=stop)
        found = set(self.store.cids())
        assert self.must() <= found <= self.there | self.unsure
        self.there, self.unsure = found, self.unsure & found

    @rule(operation=st.integers(1, 25), chosen=numbers, collecting=st.booleans())
    def lose_power(self, operation: int, chosen: list[int], collecting: bool) -> None:
        """During a put or a collection, or after it where it has fewer operations."""
        self.machine.cut_at = self.machine.operations + operation
        blocks = [LEAVES[number] for number in chosen]
        acknowledged = True
        before = self.there - self.unsure
        try:
            if collecting:
                self.collect()
                acknowledged = False
            else:
                acknowledged = self.put(blocks)
        except PowerCut:
            acknowledged = False
        pinned = set().union(*self.pinned.values())
        old = self.path
        self.lives += 1
        self.store._index.database.close()  # writes nothing, and no files come and go while they are copied
        self.machine.remains(old, self.path)
        self.machine.is_off, self.machine.cut_at = False, None
        self.leases.clear()
        self.store.close()
        shutil.rmtree(old)
        self.open()
        found = set(self.store.cids())
        kept = pinned if collecting else before | ({cid for cid, _ in blocks} if acknowledged else set())
        assert kept - found == set()
        assert found <= self.there | self.unsure | {cid for cid, _ in blocks}
        self.there, self.unsure = found, found - kept
        assert self.store.verify().damages == ()

    @invariant()
    def the_store_is_whole(self) -> None:
        stats = self.store.stats()
        cids = list(self.store.cids())
        assert stats.blocks == len(cids) == len(set(cids))
        sizes = [path.stat().st_size for path in (self.path / "packs").iterdir()]
        assert stats.bytes_used == sum(sizes) <= self.max_bytes
        assert self.must() <= set(cids)
        assert all(self.store._index.lookup(cid.multihash) is not None for cid in self.must())

    @rule()
    def verify(self) -> None:
        report = self.store.verify()
        assert report.damages == ()

    @rule()
    def reopen(self) -> None:
        self.leases.clear()
        self.store.close()
        self.open()
        assert set(self.store.cids()) >= self.must()


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
