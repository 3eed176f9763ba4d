"""Asking a node to collect garbage, and telling how far it is meanwhile."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mpisa import sdk

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpisa.sdk import models
    from mpisa.sdk.transport import Transport

LONGEST_RUN_S = 24 * 3600.0
LOOK_S = 0.5


async def collect(
    transport: Transport, dry_run: bool, progress: Callable[[models.GcState], None] | None
) -> models.GcResult:
    """The outcome; `progress` hears twice a second how far the node is. Raises what `Transport.call` does."""
    asked = asyncio.create_task(
        transport.call(sdk.models.GcResult, "POST", "/v1/gc", body={"dry_run": dry_run}, timeout=LONGEST_RUN_S)
    )
    try:
        while progress is not None and not (await asyncio.wait((asked,), timeout=LOOK_S))[0]:
            progress(await transport.call(sdk.models.GcState, "GET", "/v1/gc"))
        return await asked
    finally:
        asked.cancel()
