"""Faults in how blocks get from node to node: who is believed, who is asked, what is durable, who is served."""

from tests.mutants.fault import mutant

EXCHANGE = "mpisa/network/exchange.py"
SERVING_FILE = "mpisa/network/serving.py"
BEHIND = "mpisa/node/write_behind.py"
RETRIEVAL = "mpisa/node/retrieval.py"

FETCHING = (
    mutant(
        "takes small blocks as they come",
        EXCHANGE,
        "            return cid.matches(data)\n",
        "            return True\n",
        "tests/network/test_exchange.py",
    ),
    mutant(
        "asks a liar again",
        EXCHANGE,
        "standing.liar_until = now + LIAR_SECONDS",
        "standing.liar_until = now",
        "tests/network/test_exchange.py",
    ),
    mutant(
        "asks nobody beside one that is late",
        EXCHANGE,
        "                    allowed = RACERS\n",
        "                    allowed = 1\n",
        "tests/network/test_stealing.py",
    ),
    mutant(
        "leaves requests behind that were given up",
        EXCHANGE,
        "            await _give_up(running)\n",
        "            running.clear()\n",
        "tests/network/test_stealing.py",
    ),
    mutant(
        "asks for all at once before the first has come",
        EXCHANGE,
        "room = min(concurrency, FIRST_IN_FLIGHT)",
        "room = concurrency",
        "tests/network/test_stealing.py",
    ),
    mutant(
        "asks whoever is connected before those who were named",
        EXCHANGE,
        "1.0 if self.feed.is_named(peer) else UNLIKELY",
        "1.0",
        "tests/network/test_stealing.py",
    ),
    mutant(
        "waits for the DHT though peers are connected",
        "mpisa/node/sessions.py",
        "for address in [*hinted, *self._found.values(), *connected.values()]:",
        "for address in [*hinted, *self._found.values()]:",
        "tests/node/test_sessions.py",
    ),
)

KEEPING = (
    mutant(
        "calls durable what is on its way",
        BEHIND,
        "        while owner.pending:\n",
        "        while False:\n",
        "tests/node/test_write_behind.py",
    ),
    mutant(
        "holds whatever arrives",
        BEHIND,
        "self._bytes + len(data) <= self._window and len(self._held) < MAX_BLOCKS",
        "True",
        "tests/node/test_write_behind.py",
    ),
    mutant(
        "drops what isn't stored yet when the node stops",
        BEHIND,
        "        while self._queue or self._writes:\n",
        "        while self._writes:\n",
        "tests/node/test_write_behind.py",
    ),
    mutant(
        "tells nobody of a write that failed",
        BEHIND,
        "            owner.error = owner.error or error\n",
        "",
        "tests/node/test_write_behind.py",
    ),
    mutant(
        "ends a stream before its blocks are durable",
        RETRIEVAL,
        "                    await asyncio.shield(shared.task)\n",
        "",
        "tests/node/test_retrieval.py",
    ),
    mutant(
        "pins a block that isn't durable",
        RETRIEVAL,
        "        if durable:\n",
        "        if False:\n",
        "tests/node/test_retrieval.py",
    ),
    mutant(
        "fetches a block once for each who wants it",
        RETRIEVAL,
        "            fetching = self._fetching.get(cid)\n            if",
        "            fetching = None\n            if",
        "tests/node/test_retrieval.py",
    ),
    mutant(
        "fetches a DAG without a lease",
        "mpisa/node/dag_retrieval.py",
        '            with environment.store.lease(f"retrieval of {self.root}"):\n',
        "            if True:\n",
        "tests/node/test_retrieval.py",
    ),
    mutant(
        "reads without a lease's end",
        "mpisa/node/reading.py",
        "        self._lease.release()\n",
        "",
        "tests/node/test_content.py",
    ),
    mutant(
        "fetches though it was told not to",
        "mpisa/node/reading.py",
        "        if self._local_only:\n",
        "        if False:\n",
        "tests/node/test_content.py",
    ),
)

SERVING = (
    mutant(
        "serves whoever asked first until nobody of his is left",
        SERVING_FILE,
        "            self._waiting.move_to_end(asker)\n",
        "",
        "tests/network/test_serving.py",
    ),
    mutant(
        "lets a slow reader keep its place",
        SERVING_FILE,
        "call_later(TURN_SECONDS, self._give_place, turn)",
        "call_later(TURN_SECONDS, int)",
        "tests/network/test_serving.py",
    ),
    mutant(
        "lets one asker hold all there is",
        SERVING_FILE,
        "mine <= self._limits.inflight_bytes - self._total",
        "size <= self._limits.inflight_bytes - self._total",
        "tests/network/test_serving.py",
    ),
    mutant(
        "lets any number of questions wait",
        SERVING_FILE,
        "        if len(queue) >= MAX_WAITING:\n",
        "        if False:\n",
        "tests/network/test_serving.py",
    ),
    mutant(
        "keeps a turn for who has gone",
        SERVING_FILE,
        "            self._waiting[asker].remove(waiter)\n",
        "            waiter.size = 0\n",
        "tests/network/test_serving.py",
    ),
)
