"""Handing in many signed transactions: in batches, or on one stream that is answered as they get on."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from mpisa.primitives.errors import IntegrityError
from mpisa.sdk import models
from mpisa.sdk.publishing import ANSWER_MARGIN_S

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpisa.sdk.transport import Transport

MAX_BATCH: Final = 256
SILENCE_S: Final = 60.0
"""Several heartbeats long: a node that says nothing for that long is gone."""
MAX_LINE_BYTES: Final = 1 << 20

Source: TypeAlias = AsyncIterable[bytes | Sequence[bytes]]
"""Raw transactions, each by itself or several that are ready at once."""

_decode: Final = msgspec.json.Decoder(models.StreamAnswer).decode


async def submit_many(
    transport: Transport, raws: Iterable[bytes], wait: str, timeout: float
) -> tuple[models.BatchResult, ...]:
    """One result each, in their order; MAX_BATCH a request, one request after the other."""
    waiting = list(raws)
    found: list[models.BatchResult] = []
    for at in range(0, len(waiting), MAX_BATCH):
        answer = await transport.call(
            models.Batch,
            "POST",
            "/v1/transactions/batch",
            query={"wait": wait, "timeout": f"{timeout:.3f}"},
            body={"transactions": [raw.hex() for raw in waiting[at : at + MAX_BATCH]]},
            timeout=timeout + ANSWER_MARGIN_S,
        )
        found += answer.results
    return tuple(found)


async def submit_stream(transport: Transport, source: Source, wait: str) -> AsyncIterator[models.StreamAnswer]:
    """Sends what `source` gives and yields answers meanwhile; ends when all of it is answered."""
    headers = {"Content-Type": "application/x-ndjson", "Accept": "application/x-ndjson"}
    rest = b""
    async with transport.stream(
        "POST",
        "/v1/transactions/stream",
        query={"wait": wait},
        data=_lines(source),
        headers=headers,
        silence=SILENCE_S,
    ) as answer:
        async for data in answer.content.iter_any():
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                raise IntegrityError(f"an answer is longer than {MAX_LINE_BYTES} bytes")
            for line in lines:
                if line:
                    yield _read(line)


def _read(line: bytes) -> models.StreamAnswer:
    try:
        return _decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise IntegrityError(f"an answer of the stream isn't one of ours: {error}") from None


async def _lines(source: Source) -> AsyncIterator[bytes]:
    async for item in source:
        raws = (item,) if isinstance(item, bytes) else item
        yield b"".join(b'{"transaction":"%s"}\n' % raw.hex().encode() for raw in raws)
