"""One running node: opens the stores, recovers the engine, starts the network and the tasks, and stops them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.node.home import Home

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mpisa.config import NodeConfig
    from mpisa.network.ports import BlockSource, Network, NetworkConfig
