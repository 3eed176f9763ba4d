"""Transactions: one a request, a batch a request, or a stream that is answered as things happen.

A stream's request body and its answer flow at the same time: lines of JSON both ways. The node stops reading while too
many transactions are unanswered or the client doesn't read, so neither side fills the other's memory.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import msgspec
from aiohttp import web

from mpisa.api import convert
from mpisa.api.problems import problem_of
from mpisa.api.routing import Answer, Context, Query, Route, read_hex, read_json
from mpisa.node.views import WaitFor
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason, TimedOut, UsageError
from mpisa.primitives.transaction import MAX_TRANSACTION_BYTES
from mpisa.sdk import models

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpisa.node.facade import TransactionStream

DEFAULT_WAIT_S: Final = 30.0
MAX_WAIT_S: Final = 300.0
HASH_BYTES: Final = 32
MAX_BATCH: Final = 256
MAX_BATCH_BYTES: Final = 8 << 20
MAX_LINE_BYTES: Final = 2 * MAX_TRANSACTION_BYTES + 64
LINES: Final = "application/x-ndjson"
HEARTBEAT_S: Final = 15.0
SILENCE_S: Final = 60.0
"""How long a stream's client may send nothing while nothing of its is unanswered, or take no answer."""


class Submission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed transaction, in hex."""

    transaction: str


class BatchSubmission(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Signed transactions, in hex, in the order in which they are handed in."""

    transactions: list[str]


_decode_line: Final = msgspec.json.Decoder(Submission).decode
_encoder: Final = msgspec.json.Encoder()


async def submit(context: Context, request: web.Request) -> Answer:
    wait, timeout_s = _read_wait(request)
    body: Submission = await read_json(request, Submission)
    return convert.transaction(await context.node.submit(_read_raw(body.transaction), wait, timeout_s))


async def submit_batch(context: Context, request: web.Request) -> Answer:
    wait, timeout_s = _read_wait(request)
    body: BatchSubmission = await read_json(request, BatchSubmission, MAX_BATCH_BYTES)
    if not 1 <= len(body.transactions) <= MAX_BATCH:
        raise UsageError(f"transactions: expected 1 to {MAX_BATCH}, got {len(body.transactions)}")
    raws = [_read_raw(text) for text in body.transactions]
    results = await context.node.submit_many(raws, wait, timeout_s)
    return models.Batch(results=tuple(_result(result) for result in results))


async def submit_stream(context: Context, request: web.Request) -> Answer:
    wait, _ = _read_wait(request)
    with context.node.open_stream(wait) as stream:
        response = web.StreamResponse(headers={"Content-Type": LINES, "Cache-Control": "no-store"})
        await response.prepare(request)
        reader = asyncio.create_task(_read_lines(request, stream))
        try:
            await _write_answers(response, stream)
        except (ConnectionError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
        finally:
            reader.cancel()
            failures = await asyncio.gather(reader, return_exceptions=True)
        if isinstance(failures[0], MpisaError):
            await response.write(_line(models.StreamAnswer(transactions=(), problem=problem_of(failures[0]))))
    return response


async def _read_lines(request: web.Request, stream: TransactionStream) -> None:
    """Hands in line after line; ends the stream at the body's end, and at a line that is none."""
    try:
        async for line in _lines(request):
            await stream.offer(_read_raw(_decode_line(line).transaction))
    except msgspec.DecodeError as error:
        raise UsageError(f"line: {error}", hint="see /openapi.json") from None
    finally:
        stream.finish()


async def _lines(request: web.Request) -> AsyncIterator[bytes]:
    rest = b""
    chunks = aiter(request.content.iter_any())
    while True:
        try:
            async with asyncio.timeout(SILENCE_S):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise TimedOut(f"the stream was silent for {SILENCE_S:g} s", hint="close a stream that is done") from None
        if chunk is None:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise Rejection(RejectionReason.TOO_LARGE, f"line: expected at most {MAX_LINE_BYTES} bytes")
        for line in lines:
            if line:
                yield line
    if rest:
        yield rest


async def _write_answers(response: web.StreamResponse, stream: TransactionStream) -> None:
    while (answers := await stream.answers(HEARTBEAT_S)) is not None:
        data = b"".join(_line(convert.stream_answer(answer)) for answer in answers) or b"\n"
        async with asyncio.timeout(SILENCE_S):
            await response.write(data)


def _line(answer: models.StreamAnswer) -> bytes:
    return _encoder.encode(answer) + b"\n"


def _result(result: object) -> models.BatchResult:
    if isinstance(result, MpisaError):
        return models.BatchResult(problem=problem_of(result))
    return models.BatchResult(transaction=convert.transaction(result))  # type: ignore[arg-type]


async def transaction(context: Context, request: web.Request) -> Answer:
    found = read_hex(request.match_info["hash"], "hash", length=HASH_BYTES)
    return convert.transaction(context.node.transaction(found))


def _read_raw(text: str) -> bytes:
    return read_hex(text, "transaction", max_length=MAX_TRANSACTION_BYTES)


def _read_wait(request: web.Request) -> tuple[WaitFor, float]:
    text = request.query.get("wait", WaitFor.CERTIFIED.value)
    try:
        wait = WaitFor(text)
    except ValueError:
        known = ", ".join(item.value for item in WaitFor)
        raise UsageError(f"wait: expected one of {known}, got {text[:40]!r}") from None
    number = request.query.get("timeout", str(DEFAULT_WAIT_S))
    try:
        timeout_s = float(number)
    except ValueError:
        timeout_s = 0.0
    if not 0 < timeout_s <= MAX_WAIT_S:
        raise UsageError(f"timeout: expected seconds above 0, at most {MAX_WAIT_S:g}, got {number[:40]!r}")
    return wait, timeout_s


_WAIT: Final = Query(
    "wait", {"type": "string", "enum": [item.value for item in WaitFor]}, "How long to wait; certified."
)
_TIMEOUT: Final = Query(
    "timeout", {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_WAIT_S}, f"In seconds; {DEFAULT_WAIT_S:g}."
)
_SUBMIT: Final = (
    "Idempotent by the transaction's hash: sending the same bytes again answers with what became of them, so no "
    "Idempotency-Key is needed, and one that is sent is ignored. A transaction that was ordered but rejected is "
    "answered with 200, status rejected and its receipt; one refused at the door with a problem detail. `accepted` is "
    "a promise of this node alone: it is lost if the node dies before the transaction is ordered. `certified` is final."
)
_BATCH: Final = (
    f"1 to {MAX_BATCH} transactions; `results` has one item each, in their order: where the transaction is, or the "
    "problem detail that POST /v1/transactions would have answered. One that is refused doesn't stop the others."
)
_STREAM: Final = (
    'Lines of JSON both ways, at the same time: each line sent is `{"transaction": HEX}`, each line answered a '
    "StreamAnswer naming transactions by their places in the stream (from 0), grouped by state and block. Each is "
    "answered until the state that `wait` asks for, or a final refusal or rejection; empty lines are heartbeats. The "
    "answer ends when the request's body has ended and all of it is answered. The node stops reading while too many "
    "are unanswered. An answer that names no transaction says why the stream was ended."
)

ROUTES = (
    Route(
        "POST",
        "/v1/transactions",
        submit,
        "Hand in a signed transaction and wait",
        "chain",
        models.Transaction,
        description=_SUBMIT,
        query=(_WAIT, _TIMEOUT),
        body=Submission,
        consumes=("application/json",),
        errors=(409, 413, 422, 429, 503, 504),
    ),
    Route(
        "POST",
        "/v1/transactions/batch",
        submit_batch,
        "Hand in several signed transactions and wait for all",
        "chain",
        models.Batch,
        description=_BATCH,
        query=(_WAIT, _TIMEOUT),
        body=BatchSubmission,
        consumes=("application/json",),
        errors=(413, 503),
    ),
    Route(
        "POST",
        "/v1/transactions/stream",
        submit_stream,
        "Hand in signed transactions one after the other, answered as they get on",
        "chain",
        models.StreamAnswer,
        description=_STREAM,
        query=(_WAIT,),
        body=Submission,
        consumes=(LINES,),
        produces=(LINES,),
        errors=(503,),
    ),
    Route(
        "GET",
        "/v1/transactions/{hash}",
        transaction,
        "Where a transaction is",
        "chain",
        models.Transaction,
        errors=(404,),
    ),
)
