"""Rebuilds the ledger of a home from its vertices, as a node does while it starts; prints each height reached.

Run as a program: HOME PAGE_ROUNDS.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from consensus.parameters import Parameters
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.execution import Execution, signs_nothing
from mpisa.node.rebuild import Rebuild
from mpisa.node.runtime import epochs_of, open_ledger, read_setup
from mpisa.node.transaction_cache import TransactionCache


def rebuild(home: Path, page_rounds: int, progress: Callable[[int], bool]) -> int:
    """How many chain blocks were executed; `progress` gets the height after each page and says whether to stop."""
    setup = read_setup(home)
    store = open_ledger(setup)
    vertices = ConsensusStore(setup.home.consensus)
    parameters = Parameters().with_agreed(dict(setup.genesis.parameters.consensus))
    try:
        with ThreadPoolExecutor(1) as writer:
            execution = Execution(store, signs_nothing, writer, TransactionCache(), parameters)
            epochs = epochs_of(setup, parameters, store, vertices)
            work = Rebuild(epochs, parameters, store, vertices, execution, page_rounds=page_rounds, behind_rounds=0)
            return work.run(lambda: progress(store.height))
    finally:
        store.close()
        vertices.close()


def _print(height: int) -> bool:
    print(height, flush=True)
    return False


if __name__ == "__main__":
    rebuild(Path(sys.argv[1]), int(sys.argv[2]), _print)
