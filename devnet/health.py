"""Asking a node on this machine how it is: short, bounded HTTP reads with the standard library.

The answers are small JSON objects; anything else counts as "not answering", never as an error of ours.
"""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 1 << 20
TROUBLES = (
    ("halted", "halted"),
    ("No space left", "disk full"),
    ("can't write to", "disk fault"),
    ("a quorum is needed", "no quorum"),
    ("connected to no authority", "no peers"),
    ("catching up", "catching up"),
    ("certif", "not certifying"),
    ("does not answer", "silent"),
)
"""What a reason holds, and what it is called in a table; the first that fits counts."""


@dataclass(frozen=True, slots=True)
class Health:
    """What one node says of itself. `ready` False comes with the reasons it gave, or why it could not be asked."""

    ready: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NodeReport:
    """One line of `mpisa devnet status`; heights, roots and peers are None while the node does not answer."""

    name: str
    pid: int | None
    running: bool
    ready: bool
    api: str
    height: int | None
    ordered_height: int | None
    state_root: str | None
    peers: int | None
    reasons: tuple[str, ...]
    paused: bool = False

    @property
    def trouble(self) -> str | None:
        """In two words, what keeps a running node from serving; None while it is merely on its way."""
        return next((word for sign, word in TROUBLES for reason in self.reasons if sign in reason), None)


def ask(api: str, path: str, *, timeout_s: float = TIMEOUT_S) -> tuple[int, dict[str, Any]] | None:
    """GET one small JSON object: (status, body), or None when the node does not answer properly."""
    address = urlsplit(api)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = json.loads(answer.read(MAX_ANSWER_BYTES) or b"{}")
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return (answer.status, body) if isinstance(body, dict) else None


def health(api: str) -> Health:
    """Whether the node's /readyz says yes, and if not, why."""
    answer = ask(api, "/readyz")
    if answer is None:
        return Health(False, ("does not answer yet",))
    status, body = answer
    if status == 200:
        return Health(True, ())
    reasons = body.get("reasons") or ([body["detail"]] if body.get("detail") else [])
    return Health(False, tuple(map(str, reasons)) or (f"/readyz answered {status}",))


def report(name: str, pid: int | None, running: bool, api: str, *, paused: bool = False) -> NodeReport:
    """Ask a node for its head and its peers; one that is paused couldn't answer."""
    if not running:
        return NodeReport(name, pid, False, False, api, None, None, None, None, ("not running",))
    if paused:
        return NodeReport(name, pid, True, False, api, None, None, None, None, ("paused",), True)
    state = health(api)
    _, head = ask(api, "/v1/chain/head") or (0, {})
    _, peers = ask(api, "/v1/peers") or (0, {})
    listed = peers.get("peers")
    return NodeReport(
        name=name,
        pid=pid,
        running=True,
        ready=state.ready,
        api=api,
        height=head.get("height"),
        ordered_height=head.get("ordered_height"),
        state_root=head.get("state_root"),
        peers=sum(peer.get("connected", True) for peer in listed) if isinstance(listed, list) else None,
        reasons=state.reasons,
    )
