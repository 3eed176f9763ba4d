"""HTTP for the SDK: one lazily made session, typed answers, and every failure as an error of this project.

aiohttp is imported at the first request. Nothing listening means Unreachable with a hint; silence means TimedOut; a
problem detail becomes the error class it names. Answers that aren't streams are read up to a named bound.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from mpisa.primitives.errors import Denied, IntegrityError, TimedOut, Unreachable
from mpisa.sdk.problems import error_from_problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    import aiohttp

    from mpisa.sdk.endpoint import Target

M = TypeVar("M")

MAX_ANSWER_BYTES: Final = 32 << 20
MAX_PROBLEM_BYTES: Final = 64 << 10
MAX_CONNECTIONS: Final = 256
READ_CHUNK_BYTES: Final = 1 << 20
UNREACHABLE_HINT: Final = "is it running? `mpisa devnet up` starts four nodes on this machine"


class ConnectionCut(Unreachable):
    """The connection broke after the request was sent: whether it took effect is unknown."""


class Transport:
    """Requests to one node. `timeout` is in seconds: for a whole small request, or for silence within a stream."""

    def __init__(self, target: Target, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=MAX_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                read_bufsize=READ_CHUNK_BYTES,
            )
        return self._session

    async def call(
        self,
        kind: type[M],
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        silence: float | None = None,
        also: tuple[int, ...] = (),
    ) -> M:
        """Send a request and convert its JSON answer.

        `body` is sent as JSON, `data` as it is (bytes or an async iterator, then `silence` bounds the wait for the
        answer instead of `timeout`). `also` lists statuses besides 2xx that carry an answer.
        """
        sent = dict(headers or {})
        if body is not None:
            data = json.dumps(body).encode()
            sent["Content-Type"] = "application/json"
        total = None if silence is not None else timeout or self.timeout
        async with self.stream(
            method, path, query=query, data=data, headers=sent, total=total, silence=silence, also=also
        ) as answer:
            received = await _read_bounded(answer, MAX_ANSWER_BYTES)
        return self._convert(kind, received, path)

    def _convert(self, kind: type[M], data: bytes, path: str) -> M:
        try:
            return msgspec.json.decode(data, type=kind)
        except (msgspec.DecodeError, RecursionError) as error:
            raise IntegrityError(
                f"{self.target.endpoint}{path} gave an answer that isn't one of ours: {error}",
                hint="is this endpoint an MPISA node?",
            ) from None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        total: float | None = None,
        silence: float | None = None,
        also: tuple[int, ...] = (),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and hand over its answer unread, once its status is known to be good."""
        session = self._open()
        import aiohttp

        limits = aiohttp.ClientTimeout(
            total=total, sock_connect=self.timeout, sock_read=silence or total or self.timeout
        )
        sent = {"Accept": "application/json", **(headers or {})}
        if self.target.token:
            sent["Authorization"] = f"Bearer {self.target.token}"
        url = self.target.endpoint + path
        try:
            async with session.request(
                method,
                url,
                params=query,
                data=data,
                headers=sent,
                timeout=limits,
                allow_redirects=False,
                expect100=hasattr(data, "__aiter__"),
            ) as answer:
                if not 200 <= answer.status < 300 and answer.status not in also:
                    await self._raise_problem(answer)
                yield answer
        except (TimeoutError, aiohttp.ServerTimeoutError) as error:
            raise self._timed_out(method, path, total or silence or self.timeout) from error
        except aiohttp.ClientConnectorError as error:
            raise Unreachable(f"nothing answers at {self.target.endpoint}", hint=UNREACHABLE_HINT) from error
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, ConnectionError) as error:
            raise ConnectionCut(
                f"the connection to {self.target.endpoint} was cut before the answer was complete", hint="try again"
            ) from error
        except aiohttp.ClientError as error:
            raise Unreachable(
                f"{self.target.endpoint} doesn't speak HTTP as expected: {error}", hint=UNREACHABLE_HINT
            ) from error

    async def _raise_problem(self, answer: aiohttp.ClientResponse) -> None:
        data = await _read_bounded(answer, MAX_PROBLEM_BYTES)
        try:
            body = json.loads(data)
        except (ValueError, RecursionError):
            body = None
        error = error_from_problem(answer.status, body)
        if isinstance(error, Denied) and answer.status == 401 and not self.target.token:
            raise Denied(error.message, hint="give a token: MPISA_TOKEN, or --home with the node's home")
        raise error

    def _timed_out(self, method: str, path: str, seconds: float) -> TimedOut:
        return TimedOut(
            f"{self.target.endpoint} gave no answer to {method} {path} within {seconds:g} s",
            hint="`mpisa node status` shows whether it is busy or halted; give a longer --timeout",
        )


async def _read_bounded(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    parts = bytearray()
    async for part in answer.content.iter_chunked(READ_CHUNK_BYTES):
        parts += part
        if len(parts) > limit:
            raise IntegrityError(
                f"the node's answer is longer than {limit} bytes", hint="is this endpoint an MPISA node?"
            )
    return bytes(parts)
