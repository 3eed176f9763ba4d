"""What this node gives to those behind it: ranges of certified blocks and snapshots, read by one thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.serving import Serving
from mpisa.node.snapshots import Snapshots

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from consensus.parameters import Parameters
    from mpisa.config import HistoryConfig
    from mpisa.network.ports import Network
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.consensus_store import ConsensusStore
    from mpisa.primitives.header import Header


class Providing:
    """Both under one roof. Belongs to the loop."""

    def __init__(
        self,
        network: Network,
        store: ChainStore,
        vertices: ConsensusStore,
        history: HistoryConfig,
        parameters: Parameters,
        reader: Executor,
    ) -> None:
        self._serving = Serving(network, store, vertices, parameters, reader)
        self.snapshots = Snapshots(network, store, history, parameters, reader)

    def attach(self) -> None:
        """Answers peers from now on."""
        self._serving.attach()
        self.snapshots.attach()

    def begin(self) -> None:
        """What is here now may be offered."""
        self.snapshots.begin()

    def executed(self, header: Header) -> None:
        """A chain block was executed here."""
        self.snapshots.executed(header)

    def certified(self, height: int) -> None:
        """A height was certified here."""
        self._serving.certified()
        self.snapshots.certified(height)

    async def close(self) -> None:
        """Waits for what is under way."""
        await self.snapshots.close()
