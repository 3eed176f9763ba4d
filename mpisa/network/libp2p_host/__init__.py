"""The only room that knows libp2p and trio: one trio thread runs the library, the rest of MPISA is asyncio.

`host.Libp2pHost` is what others use. `cures` are our repairs of py-libp2p 0.8.1; `version` refuses any other, since
each repair was made for that very code. Importing this package imports no library; `load()` does, and may be called
before a fork.
"""

from __future__ import annotations


def load() -> None:
    """Imports the library (seconds, one OS thread, no sockets), so that a parent can do it once for all nodes it
    forks.
    """
    from mpisa.network.libp2p_host import engine  # noqa: F401
