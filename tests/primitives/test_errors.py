"""The errors' words and numbers are an interface: commands exit with them, receipts and HTTP answers carry them."""

import pickle

import pytest

from mpisa.primitives import errors
from mpisa.primitives.errors import MpisaError, Rejection, RejectionReason

KINDS = [
    (errors.MpisaError, 1, "error"),
    (errors.UsageError, 2, "usage"),
    (errors.InvalidConfig, 2, "invalid-config"),
    (errors.NotFound, 3, "not-found"),
    (errors.Denied, 4, "denied"),
    (errors.IntegrityError, 5, "integrity"),
    (errors.StoreDamaged, 5, "store-damaged"),
    (errors.Unreachable, 6, "unreachable"),
    (errors.NotReady, 6, "not-ready"),
    (errors.SafeHalt, 6, "safe-halt"),
    (errors.Halted, 6, "halted"),
    (errors.TimedOut, 7, "timed-out"),
    (errors.StoreBusy, 1, "store-busy"),
    (errors.DiskFull, 1, "disk-full"),
]


@pytest.mark.parametrize(("kind", "exit_code", "code"), KINDS)
def test_an_error_carries_message_hint_exit_code_and_code(kind: type[MpisaError], exit_code: int, code: str) -> None:
    error = kind("the disk is gone", hint="look for it")
    assert (str(error), error.message, error.hint) == ("the disk is gone", "the disk is gone", "look for it")
    assert (error.exit_code, error.code) == (exit_code, code)
    assert kind("no hint").hint is None


def test_a_rejection_says_reason_and_detail() -> None:
    rejection = Rejection(RejectionReason.BAD_PROOF, "expected 3 siblings, got 2", hint="ask another node")
    assert str(rejection) == "bad-proof: expected 3 siblings, got 2"
    assert (rejection.reason, rejection.detail) == (RejectionReason.BAD_PROOF, "expected 3 siblings, got 2")
    assert (rejection.hint, rejection.exit_code, rejection.code) == ("ask another node", 1, "rejected")


def test_a_rejection_crosses_process_boundaries() -> None:
    rejection = pickle.loads(pickle.dumps(Rejection(RejectionReason.EXPIRED, "expected 1, got 2", hint="sign again")))
    assert (str(rejection), rejection.reason, rejection.hint) == (
        "expired: expected 1, got 2",
        RejectionReason.EXPIRED,
        "sign again",
    )


def test_reasons_are_the_kebab_case_of_their_names_in_order() -> None:
    assert [reason.value for reason in RejectionReason] == [
        reason.name.lower().replace("_", "-") for reason in RejectionReason
    ]
    assert [reason.name for reason in RejectionReason] == sorted(reason.name for reason in RejectionReason)
