"""Faults in bitswap: what a peer can make this node hold, whom it believes, what Kubo and Helia wait for."""

from tests.mutants.fault import mutant

MESSAGES = "mpisa/network/bitswap/messages.py"
LEDGER = "mpisa/network/bitswap/ledger.py"
SERVICE = "mpisa/network/bitswap/service.py"
WANTS = "mpisa/network/bitswap/wants.py"
STREAMS = "mpisa/network/libp2p_host/bitswap_streams.py"

BITSWAP = (
    mutant(
        "sends the blocks of old CIDs with an empty prefix",
        MESSAGES,
        "    if cid.version == 0:\n        return _V0_PREFIX\n",
        '    if cid.version == 0:\n        return b""\n',
        "tests/network/test_bitswap_messages.py",
    ),
    mutant(
        "takes any number of wants",
        LEDGER,
        "elif len(wants) < room or entry.cid in wants:",
        "elif room:",
        "tests/network/test_bitswap_ledger.py",
    ),
    mutant(
        "keeps the wants that a full list replaces",
        LEDGER,
        "            wants.clear()\n",
        "            pass\n",
        "tests/network/test_bitswap_ledger.py",
    ),
    mutant(
        "hands a block to whoever waits for another peer's",
        WANTS,
        "        wants = self._waiting.get(peer)\n        if wants is None:\n            return []\n",
        "        wants = next(iter(self._waiting.values()), None)\n        if wants is None:\n            return []\n",
        "tests/network/test_bitswap_ledger.py",
    ),
    mutant(
        "leaves those waiting who wait for a peer that has gone",
        SERVICE,
        "        self.wants.gone(peer)\n",
        "",
        "tests/network/test_bitswap.py",
    ),
    mutant(
        "answers a want-have with the block whatever its size",
        SERVICE,
        "size > SMALL_BLOCK_BYTES",
        "size > 1 << 40",
        "tests/network/test_bitswap.py",
    ),
    mutant(
        "says nothing of blocks it lacks",
        SERVICE,
        "            elif entry.send_dont_have:\n",
        "            elif False:\n",
        "tests/network/test_bitswap.py",
    ),
    mutant(
        "serves on whoever doesn't read",
        SERVICE,
        "        self._muted[peer] = asyncio.get_running_loop().time() + MUTED_SECONDS\n",
        "        self._muted[peer] = asyncio.get_running_loop().time()\n",
        "tests/network/test_bitswap.py",
    ),
    mutant(
        "reads messages of any length",
        STREAMS,
        "            if length > MAX_MESSAGE_BYTES:\n",
        "            if length > 1 << 40:\n",
        "tests/network/test_bitswap.py",
    ),
    mutant(
        "takes blocks nobody asked for without end",
        SERVICE,
        "if self._unasked.get(peer, 0) > MAX_UNASKED_BYTES:",
        "if self._unasked.get(peer, 0) > 1 << 40:",
        "tests/network/test_bitswap.py",
    ),
)
