"""Faults in what clients check for themselves: what lies on the disk, what a node says, what is pinned and why."""

from tests.mutants.fault import mutant

SINKS = "mpisa/sdk/sinks.py"
UPLOAD = "mpisa/sdk/upload.py"

CLIENTS = (
    mutant(
        "takes a block from a node unhashed",
        "mpisa/sdk/blocks.py",
        "        if not await asyncio.to_thread(cid.matches, block):\n",
        "        if not block:\n",
        "tests/sdk/test_getting.py",
    ),
    mutant(
        "takes what lies on the disk unhashed",
        "mpisa/sdk/download.py",
        "    return data if item.cid.matches(data) else None\n",
        "    return data\n",
        "tests/sdk/test_getting.py",
    ),
    mutant(
        "leaves names in a tree that it hasn't",
        SINKS,
        "            self._remove_strangers()\n",
        "            pass\n",
        "tests/sdk/test_getting.py",
    ),
    mutant(
        "writes through a hard link",
        SINKS,
        "stat.S_ISREG(status.st_mode) and status.st_nlink == 1",
        "stat.S_ISREG(status.st_mode)",
        "tests/sdk/test_getting.py",
    ),
    mutant(
        "lets two downloads write to one place",
        SINKS,
        "fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        "tests/sdk/test_getting.py",
    ),
    mutant(
        "believes the node's root of a stream",
        "mpisa/sdk/streaming.py",
        "    if stored.cid != str(root):\n",
        "    if not stored.cid:\n",
        "tests/sdk/test_putting.py",
    ),
    mutant(
        "takes a put for done that the node doesn't keep",
        UPLOAD,
        "        if str(built.cid) in taken.pinned:\n",
        "        if str(built.cid) in taken.roots:\n",
        "tests/sdk/test_putting.py",
    ),
    mutant(
        "sends all again",
        UPLOAD,
        "        return [batch.blocks[place] for place in answer.missing if 0 <= place < len(batch.blocks)]\n",
        "        return batch.blocks if answer else []\n",
        "tests/sdk/test_putting.py",
    ),
    mutant(
        "lets the first pattern win",
        "mpisa/sdk/ignore.py",
        "        self._patterns = tuple(reversed(patterns))\n",
        "        self._patterns = tuple(patterns)\n",
        "tests/sdk/test_putting.py",
    ),
    mutant(
        "pins a root that lacks blocks",
        "mpisa/node/car_upload.py",
        "        if scan_local(store, walk).missing:\n",
        "        if scan_local(store, walk).size < 0:\n",
        "tests/node/test_car_upload.py",
    ),
    mutant(
        "drops a promise to others with a user's pin",
        "mpisa/node/blobs.py",
        "DROPPABLE = frozenset((PinReason.USER, PinReason.PUBLISH))\n",
        "DROPPABLE = frozenset(PinReason)\n",
        "tests/node/test_car_upload.py",
    ),
)
