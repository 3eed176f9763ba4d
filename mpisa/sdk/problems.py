"""Problem details (RFC 9457) and error classes, one to one.

`code` names the class of `mpisa.primitives.errors`, `reason` a rejection's reason. The server writes problems with
`STATUS`, the client rebuilds the same class from the answer, so that an error means the same on both sides.
"""

from __future__ import annotations

from typing import Any, Final

from mpisa.primitives import errors
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason

CONTENT_TYPE: Final = "application/problem+json"

STATUS: Final[dict[str, int]] = {
    errors.UsageError.code: 400,
    errors.Denied.code: 403,
    errors.NotFound.code: 404,
    errors.Rejection.code: 422,
    errors.IntegrityError.code: 502,
    errors.Unreachable.code: 502,
    errors.StoreDamaged.code: 500,
    errors.InvalidConfig.code: 500,
    errors.StoreBusy.code: 503,
    errors.NotReady.code: 503,
    errors.SafeHalt.code: 503,
    errors.Halted.code: 503,
    errors.TimedOut.code: 504,
    errors.DiskFull.code: 507,
    errors.MpisaError.code: 500,
}

REJECTION_STATUS: Final[dict[RejectionReason, int]] = {
    RejectionReason.BAD_ADDRESS: 400,
    RejectionReason.BAD_CID: 400,
    RejectionReason.BAD_NAME: 400,
    RejectionReason.TOO_LARGE: 413,
    RejectionReason.REPLAYED: 409,
    RejectionReason.NONCE_GAP: 409,
    RejectionReason.DUPLICATE: 409,
    RejectionReason.RATE_LIMITED: 429,
    RejectionReason.MEMPOOL_FULL: 503,
    RejectionReason.UNAVAILABLE: 503,
}

_CLASSES: Final[dict[str, type[MpisaError]]] = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MpisaError)
}


def status_of(error: MpisaError) -> int:
    """The HTTP status that goes with an error."""
    if isinstance(error, Rejection):
        return REJECTION_STATUS.get(error.reason, STATUS[Rejection.code])
    return STATUS.get(error.code, 500)


def error_from_problem(status: int, body: Any) -> MpisaError:
    """The error that a problem detail describes; an answer that isn't one is reported by its status alone."""
    problem = body if isinstance(body, dict) else {}
    detail = _text(problem.get("detail")) or _text(problem.get("title")) or f"the node answered with status {status}"
    hint = _text(problem.get("hint"))
    code = problem.get("code")
    if code == Rejection.code:
        try:
            reason = RejectionReason(str(problem.get("reason")))
        except ValueError:
            return MpisaError(detail, hint=hint)
        return Rejection(reason, detail.removeprefix(f"{reason.value}: "), hint=hint)
    kind = _CLASSES.get(code) if isinstance(code, str) else None
    return (kind or _class_of_status(status))(detail, hint=hint)


def _class_of_status(status: int) -> type[MpisaError]:
    known: dict[int, type[MpisaError]] = {
        401: errors.Denied,
        403: errors.Denied,
        404: errors.NotFound,
        408: errors.TimedOut,
        502: errors.Unreachable,
        503: errors.NotReady,
        504: errors.TimedOut,
        507: errors.DiskFull,
    }
    return known.get(status, errors.UsageError if 400 <= status < 500 else MpisaError)


def _text(value: object) -> str | None:
    return value[:2000] if isinstance(value, str) and value else None
