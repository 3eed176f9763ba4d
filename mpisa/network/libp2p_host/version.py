"""The start-up check: our cures replace parts of one version of the library, so no other one is run."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from mpisa.primitives.errors import NotReady

LIBP2P_VERSION = "0.8.1"


def check_version(found: str | None = None) -> None:
    """Raises NotReady unless the installed (or given) libp2p is the one that the cures were made for."""
    if found is None:
        try:
            found = version("libp2p")
        except PackageNotFoundError:
            found = "none"
    if found != LIBP2P_VERSION:
        raise NotReady(
            f"this node repairs libp2p {LIBP2P_VERSION} as it runs, and found {found}",
            hint=f"install libp2p=={LIBP2P_VERSION} into the node's environment",
        )
