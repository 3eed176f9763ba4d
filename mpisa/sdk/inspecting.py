"""Asking a node to hash all its blocks again, and telling how far it is meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpisa import sdk
from mpisa.sdk.collecting import LONGEST_RUN_S, LOOK_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpisa.sdk import models
    from mpisa.sdk.transport import Transport


async def verify_store(transport: Transport, progress: Callable[[int, int | None], None] | None) -> models.StoreCheck:
    """The outcome; `progress` hears twice a second how many bytes are done. Raises what `Transport.call` does."""
    asked = asyncio.create_task(transport.call(sdk.models.StoreCheck, "POST", "/v1/verify", timeout=LONGEST_RUN_S))
    try:
        while progress is not None and not (await asyncio.wait((asked,), timeout=LOOK_S))[0]:
            state = await transport.call(sdk.models.StoreCheckState, "GET", "/v1/verify")
            if state.running:
                progress(state.done, state.total)
        return await asked
    finally:
        asked.cancel()
