"""From an exception to a problem detail (RFC 9457): what happened, its code, what to do next, no traces."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from mpisa.primitives.errors import Denied, Halted, MpisaError, NotFound, Rejection, SafeHalt, UsageError
from mpisa.sdk.models import Problem
from mpisa.sdk.problems import CONTENT_TYPE, status_of

RETRY_AFTER_S: Final = 1
SAFE_HALT_RETRY_AFTER_S: Final = 5
"""A quorum that is gone doesn't come back within a second."""
MAX_DETAIL_CHARACTERS: Final = 2_000

_RETRYABLE: Final = (429, 503)


class Unauthorized(Denied):
    """No token, or a wrong one: 401 instead of 403."""


class WrongMethod(UsageError):
    """405: the path exists, the method doesn't."""

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed


class UnsupportedType(UsageError):
    """415: a body of another type than the route takes."""


class NotAcceptable(UsageError):
    """406: no representation that the client accepts."""


class NotImplementedHere(UsageError):
    """501: what is asked for makes sense, and this node doesn't do it."""


class PreconditionFailed(UsageError):
    """412: only what is here was asked for, and it isn't here."""


class RangeNotSatisfiable(UsageError):
    """416: no byte of the range lies within the `size` bytes of the answer."""

    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


_STATUSES: Final = (
    (Unauthorized, 401),
    (WrongMethod, 405),
    (NotAcceptable, 406),
    (PreconditionFailed, 412),
    (UnsupportedType, 415),
    (RangeNotSatisfiable, 416),
    (NotImplementedHere, 501),
)


def problem_response(error: MpisaError, request_id: str) -> web.Response:
    """The problem detail of an error of ours."""
    problem = problem_of(error, request_id)
    status = problem.status
    response = web.Response(status=status, body=msgspec.json.encode(problem), content_type=CONTENT_TYPE)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    if status in _RETRYABLE and not isinstance(error, Halted):
        pause_s = SAFE_HALT_RETRY_AFTER_S if isinstance(error, SafeHalt) else RETRY_AFTER_S
        response.headers["Retry-After"] = str(pause_s)
    if isinstance(error, WrongMethod):
        response.headers["Allow"] = error.allowed
    if isinstance(error, RangeNotSatisfiable):
        response.headers["Content-Range"] = f"bytes */{error.size}"
    return response


def problem_of(error: MpisaError, request_id: str | None = None) -> Problem:
    """The same as a record, for an answer that holds several."""
    status = _status(error)
    return Problem(
        type=f"urn:mpisa:problem:{error.code}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=str(error)[:MAX_DETAIL_CHARACTERS],
        code=error.code,
        hint=error.hint,
        reason=error.reason.value if isinstance(error, Rejection) else None,
        request_id=request_id,
    )


def error_of_http(error: web.HTTPException, request: web.Request) -> MpisaError:
    """What aiohttp itself refuses, in our words."""
    if error.status == 404:
        return NotFound(f"no such path: {request.path[:200]}", hint="/openapi.json lists what there is")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return WrongMethod(f"{request.method} isn't served at {request.path[:200]}, only {allowed}", allowed)
    return UsageError(error.reason or "bad request")


def _status(error: MpisaError) -> int:
    found = next((status for kind, status in _STATUSES if isinstance(error, kind)), None)
    return status_of(error) if found is None else found
