"""`Connection`: how a client reaches its node: which one, with which token, over which HTTP connections."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote

from mpisa.primitives.errors import UsageError
from mpisa.sdk.endpoint import Target, choose_target

if TYPE_CHECKING:
    from pathlib import Path

    from mpisa.primitives.genesis import Genesis
    from mpisa.sdk.transport import Transport

DEFAULT_TIMEOUT_S: Final = 60.0


@dataclass(slots=True)
class ChainFacts:
    """What a client learns of its chain once and keeps: its genesis, and one lock a signing account."""

    genesis: Genesis | None = None
    locks: dict[bytes, asyncio.Lock] = field(default_factory=dict)


class Connection:
    """A node's address and the way to it. Nothing is opened before the first request."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        token: str | None = None,
        home: str | Path | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._asked = (endpoint, token, home)
        self._target: Target | None = None
        self._transport: Transport | None = None
        self.timeout = timeout
        self.chain_facts = ChainFacts()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *details: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close connections; safe to call twice."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    @property
    def target(self) -> Target:
        """Endpoint, token and home, resolved at the first use."""
        if self._target is None:
            self._target = choose_target(*self._asked)
        return self._target

    @property
    def endpoint(self) -> str:
        """The node's URL."""
        return self.target.endpoint

    @property
    def transport(self) -> Transport:
        """The HTTP side, made at the first use."""
        if self._transport is None:
            from mpisa.sdk.transport import Transport

            self._transport = Transport(self.target, self.timeout)
        return self._transport


def segment(text: str) -> str:
    """One path segment, whatever the text is."""
    if not text or text in (".", ".."):
        raise UsageError(f"expected an identifier, got {text!r}")
    return quote(text, safe="")
