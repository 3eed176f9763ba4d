"""One running node: opens the stores, recovers the engine, starts the network and the tasks, and stops them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass
