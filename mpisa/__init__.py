"""MPISA: a storage node for AI models and datasets with a ledger of who made what from what.

Importing this package imports nothing else; `mpisa.Client`, `mpisa.AsyncClient`, `mpisa.errors` and `mpisa.__version__`
are loaded when they are first asked for.
"""

TYPE_CHECKING = False  # what typing says at run time, without importing it

if TYPE_CHECKING:
    from mpisa._version import __version__
    from mpisa.primitives import errors
    from mpisa.sdk.async_client import AsyncClient
    from mpisa.sdk.client import Client

__all__ = ["AsyncClient", "Client", "__version__", "errors"]

_HOMES = {
    "AsyncClient": "mpisa.sdk.async_client",
    "Client": "mpisa.sdk.client",
    "__version__": "mpisa._version",
}


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name == "errors":
        return import_module("mpisa.primitives.errors")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'mpisa' has no attribute {name!r}")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted(__all__)
