"""The client library: talk to a node, and check what it says without trusting it.

`Client` (for scripts and notebooks) and `AsyncClient` (for asyncio) have the same methods and one core. Results are the
frozen records of `models`, failures the classes of `mpisa.primitives.errors`. The HTTP library is imported at the first
request; libp2p and the node never are.
"""

TYPE_CHECKING = False  # what typing says at run time, without importing it

if TYPE_CHECKING:
    from mpisa.sdk import models, wallet
    from mpisa.sdk.async_client import AsyncClient
    from mpisa.sdk.client import Client

__all__ = ["AsyncClient", "Client", "models", "wallet"]

_HOMES = {"AsyncClient": "mpisa.sdk.async_client", "Client": "mpisa.sdk.client"}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in ("models", "wallet"):
        return import_module(f"mpisa.sdk.{name}")
    raise AttributeError(f"module 'mpisa.sdk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
