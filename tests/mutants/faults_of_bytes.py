"""Planted faults of keeping bytes: what a collection forgets, in which order, and who is asked before."""

from tests.mutants.fault import mutant

COMPACTION = "storage/compaction.py"
APPENDING = "storage/appending.py"
GC = "storage/gc.py"
LEASES = "storage/leases.py"
MARKING = "storage/marking.py"
OPENING = "storage/opening.py"
PACKS = "storage/packs.py"
ANY_ORDER = ("tests/storage/test_gc_state.py",)
COLLECTIONS = ("tests/storage/test_gc.py",)

COLLECTING = (
    mutant(
        "collects what a lease protects",
        LEASES,
        "if not self._protects(multihash, place, start)",
        "if True",
        *COLLECTIONS,
    ),
    mutant(
        "lets a put find a block that is about to go",
        APPENDING,
        "                    self._leases.touch(multihash)\n",
        "",
        *ANY_ORDER,
    ),
    mutant(
        "forgets a pin that was set while a collection runs",
        GC,
        "return self.is_stale() or self._stop()",
        "return self._stop()",
        *COLLECTIONS,
    ),
    mutant(
        "points at copies before they are durable",
        "storage/pack_writer.py",
        "        try:\n            self._packs.layer.sync(self._descriptor)\n",
        "        try:\n            pass\n",
        *ANY_ORDER,
    ),
    mutant(
        "removes a pack that the index still has after a power cut",
        "storage/index.py",
        "        self.database.write([*changes, _checkpoint_change(checkpoint)], sync=True)\n\n    def close(",
        "        self.database.write([*changes, _checkpoint_change(checkpoint)], sync=False)\n\n    def close(",
        *ANY_ORDER,
    ),
    mutant(
        "drops the header that says how long the pack before it is",
        COMPACTION,
        "return _holds_records(packs, pack - 1) and _header(packs, pack) is not None",
        "return False",
        *COLLECTIONS,
    ),
    mutant(
        "leaves a forgotten pack on the disk after a crash",
        OPENING,
        "        finish_retirements(packs, index, tail)\n",
        "",
        *COLLECTIONS,
    ),
    mutant(
        "collects below a missing node",
        GC,
        "        if self.marked.hidden:\n            raise _Stopped\n",
        "",
        *COLLECTIONS,
    ),
    mutant(
        "exceeds the limit while it compacts",
        APPENDING,
        "if self.max_bytes is not None and blocks and self.bytes + size + header > self.max_bytes:",
        "if False:",
        *COLLECTIONS,
    ),
    mutant(
        "marks only what a directly linked block holds",
        MARKING,
        "        ahead += reversed(children[:room])\n",
        "        for child in children:\n            _leaf(store, child, marks, marked)\n",
        *ANY_ORDER,
    ),
    mutant(
        "takes a block that moved for a damaged one",
        PACKS,
        "                if self._index.lookup(cid.multihash) != entry:\n                    continue",
        "                if False:\n                    continue",
        *COLLECTIONS,
    ),
)
