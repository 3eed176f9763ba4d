"""From an exception to what a person or a script reads: message, hint, exit code.

Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 denied, 5 integrity, 6 unreachable, 7 timeout, 130 interrupted.
With --json the failure is one object on stderr: {"error": {"code", "message", "hint"}}.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mpisa.primitives.errors import StoreDamaged

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Failure:
    """What went wrong (`message`), what to type next (`hint`), the exit code; `code` is kebab-case, for machines."""

    code: str
    message: str
    hint: str | None
    exit_code: int


def describe(error: BaseException) -> Failure:
    """Classify an exception that reached the program's root."""
    if isinstance(error, click.UsageError):
        return _describe_usage(error)
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Failure("interrupted", "interrupted", None, INTERRUPTED)
    if isinstance(error, click.ClickException):
        return Failure("error", error.format_message(), None, error.exit_code)
    from mpisa.primitives.errors import MpisaError

    if isinstance(error, MpisaError):
        return Failure(error.code, str(error), error.hint, error.exit_code)
    return _describe_other(error)


def _describe_usage(error: click.UsageError) -> Failure:
    hint = None
    if error.ctx is not None:
        hint = f"see `{error.ctx.command_path} --help`"
    possibilities = getattr(error, "possibilities", None)
    if possibilities:
        hint = f"did you mean {' or '.join(f'`{name}`' for name in possibilities[:3])}?"
        return Failure("usage", error.message, hint, 2)
    return Failure("usage", error.format_message(), hint, 2)


def _describe_other(error: BaseException) -> Failure:
    if isinstance(error, FileNotFoundError) and error.filename:
        return Failure("not-found", f"no such file or directory: {error.filename}", "check the path", 3)
    if isinstance(error, PermissionError) and error.filename:
        return Failure("denied", f"no permission: {error.filename}", "check who owns it: `ls -ld`", 4)
    if isinstance(error, TimeoutError):
        return Failure("timeout", f"timed out: {error}".rstrip(": "), "try again; `mpisa devnet status` shows nodes", 7)
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return Failure("os-error", f"{error.strerror or error}{where}", None, 1)
    return Failure(
        "internal",
        f"unexpected {type(error).__name__}: {error}".rstrip(": "),
        "this is a fault in mpisa; run again with MPISA_DEBUG=1 for the traceback and report it",
        1,
    )


def repairable(error: StoreDamaged, home: Path) -> StoreDamaged:
    """The same error, with the very command that repairs this home where its hint speaks of one."""
    from mpisa.primitives.errors import StoreDamaged

    hint = error.hint
    if hint is not None and "mpisa node repair" in hint and "--home" not in hint:
        hint = f"mpisa node repair --home {home}"
    return StoreDamaged(error.message, hint=hint)


def report(error: BaseException, arguments: Sequence[str]) -> int:
    """Write the failure to stderr, as JSON when the command line asked for JSON, and return the exit code."""
    failure = describe(error)
    if os.environ.get("MPISA_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if wants_json(arguments):
        body = {"code": failure.code, "message": failure.message, "hint": failure.hint}
        print(json.dumps({"error": body}), file=sys.stderr)
        return failure.exit_code
    if failure.exit_code == INTERRUPTED:
        print("interrupted", file=sys.stderr)
        return failure.exit_code
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    print(f"{click.style('error:', fg='red', bold=True) if colour else 'error:'} {failure.message}", file=sys.stderr)
    if failure.hint:
        print(f"{click.style('hint:', fg='cyan') if colour else 'hint:'}  {failure.hint}", file=sys.stderr)
    return failure.exit_code


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether --json stands anywhere on the command line: parsing may have failed before it was reached."""
    options = list(arguments)
    if "--" in options:
        options = options[: options.index("--")]
    return "--json" in options
