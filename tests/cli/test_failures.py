from pathlib import Path

import pytest

from mpisa.cli.failures import Failure, describe, wants_json
from mpisa.primitives import errors


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (errors.UsageError("x"), "usage", 2),
        (errors.InvalidConfig("x"), "invalid-config", 2),
        (errors.NotFound("x"), "not-found", 3),
        (errors.Denied("x"), "denied", 4),
        (errors.IntegrityError("x"), "integrity", 5),
        (errors.StoreDamaged("x"), "store-damaged", 5),
        (errors.Unreachable("x"), "unreachable", 6),
        (errors.NotReady("x"), "not-ready", 6),
        (errors.SafeHalt("x"), "safe-halt", 6),
        (errors.Halted("x"), "halted", 6),
        (errors.TimedOut("x"), "timed-out", 7),
        (errors.StoreBusy("x"), "store-busy", 1),
        (errors.DiskFull("x"), "disk-full", 1),
        (KeyboardInterrupt(), "interrupted", 130),
        (TimeoutError("x"), "timeout", 7),
        (FileNotFoundError(2, "No such file", "a"), "not-found", 3),
        (PermissionError(13, "Permission denied", "a"), "denied", 4),
        (OSError(28, "No space left on device", "a"), "os-error", 1),
        (ZeroDivisionError("x"), "internal", 1),
    ],
)
def test_each_failure_has_its_code(error: BaseException, code: str, exit_code: int) -> None:
    failure = describe(error)
    assert (failure.code, failure.exit_code) == (code, exit_code)


def test_hint_and_message_are_kept() -> None:
    assert describe(errors.NotFound("no such thing", hint="look elsewhere")) == Failure(
        "not-found", "no such thing", "look elsewhere", 3
    )


def test_json_is_wanted_wherever_it_stands_but_not_after_the_double_dash() -> None:
    assert wants_json(["chain", "head", "--json"])
    assert wants_json(["--json", "chain"])
    assert not wants_json(["put", "--", "--json"])
    assert not wants_json([])


def test_the_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="absent") as caught:
        (tmp_path / "absent").read_bytes()
    assert describe(caught.value).message == f"no such file or directory: {tmp_path / 'absent'}"
