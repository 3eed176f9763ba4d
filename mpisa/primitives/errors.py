"""Errors with one meaning each: what a user did or met (`MpisaError`), why someone's bytes were refused (`Rejection`).

An error says what happened; its hint says what to do next. `exit_code` is what a command exits with, `code` is the
stable kebab-case word that the HTTP API and `--json` output carry. Exit codes: 1 failed, 2 usage or configuration,
3 not found, 4 denied, 5 integrity, 6 unreachable, 7 timed out.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import ClassVar


class MpisaError(Exception):
    """Anything that MPISA reports to a user: a message, and a hint where there is something to do about it."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(MpisaError):
    """A command or call was given arguments that can't be meant."""

    exit_code = 2
    code = "usage"


class InvalidConfig(MpisaError):
    """A configuration file or value is wrong; the message names file, key and line."""

    exit_code = 2
    code = "invalid-config"


class NotFound(MpisaError):
    """What was asked for isn't known here."""

    exit_code = 3
    code = "not-found"


class Denied(MpisaError):
    """The caller may not do this: no or wrong token, not the owner, wrong passphrase."""

    exit_code = 4
    code = "denied"


class IntegrityError(MpisaError):
    """Bytes, a proof or a certificate aren't what they claim to be."""

    exit_code = 5
    code = "integrity"


class StoreDamaged(MpisaError):
    """A store on disk is damaged; the hint names the repair command."""

    exit_code = 5
    code = "store-damaged"


class Unreachable(MpisaError):
    """A node or peer can't be reached."""

    exit_code = 6
    code = "unreachable"


class NotReady(MpisaError):
    """The node runs, but can't serve this yet (starting, catching up, too busy): the same again later may go well."""

    exit_code = 6
    code = "not-ready"


class SafeHalt(NotReady):
    """The node takes no transactions for now, because nothing is certified; it opens by itself. Nothing was taken."""

    code = "safe-halt"


class Halted(MpisaError):
    """The node has stopped for good: only its operator lets it go on. Another node may take what it doesn't."""

    exit_code = 6
    code = "halted"


class TimedOut(MpisaError):
    """No answer within the time given; whether it took effect is unknown."""

    exit_code = 7
    code = "timed-out"


class StoreBusy(MpisaError):
    """Another process holds the store."""

    code = "store-busy"


class DiskFull(MpisaError):
    """No space left; writes stop, reads go on, and writes resume when there is space."""

    code = "disk-full"


class RejectionReason(StrEnum):
    """Why bytes or a request were refused. Values are stable: receipts and HTTP answers carry them. Append-only."""

    ACCOUNT_EXISTS = "account-exists"
    ALREADY_VALIDATOR = "already-validator"
    BAD_ADDRESS = "bad-address"
    BAD_CERTIFICATE = "bad-certificate"
    BAD_CHAIN_ID = "bad-chain-id"
    BAD_CID = "bad-cid"
    BAD_EVIDENCE = "bad-evidence"
    BAD_GENESIS = "bad-genesis"
    BAD_HEADER = "bad-header"
    BAD_KEY = "bad-key"
    BAD_KEY_FILE = "bad-key-file"
    BAD_LICENSE = "bad-license"
    BAD_NAME = "bad-name"
    BAD_PARENTS = "bad-parents"
    BAD_PAYLOAD = "bad-payload"
    BAD_POSSESSION = "bad-possession"
    BAD_PROOF = "bad-proof"
    BAD_RECORD = "bad-record"
    BAD_SIGNATURE = "bad-signature"
    BALANCE_OVERFLOW = "balance-overflow"
    DUPLICATE = "duplicate"
    DUPLICATE_OPERATION = "duplicate-operation"
    EXPIRED = "expired"
    FAUCET_DISABLED = "faucet-disabled"
    FAUCET_LIMIT = "faucet-limit"
    FEE_TOO_LOW = "fee-too-low"
    FROZEN = "frozen"
    HANDLE_LIMIT = "handle-limit"
    HASH_MISMATCH = "hash-mismatch"
    INSUFFICIENT_BALANCE = "insufficient-balance"
    INSUFFICIENT_STAKE = "insufficient-stake"
    KEY_IN_USE = "key-in-use"
    KEY_MISMATCH = "key-mismatch"
    LAST_VALIDATOR = "last-validator"
    MALFORMED = "malformed"
    MEMPOOL_FULL = "mempool-full"
    MISSING_KEY = "missing-key"
    NAME_RESERVED = "name-reserved"
    NAME_TAKEN = "name-taken"
    NONCE_GAP = "nonce-gap"
    NOT_CANONICAL = "not-canonical"
    NOT_OWNER = "not-owner"
    NOT_VALIDATOR = "not-validator"
    NO_QUORUM = "no-quorum"
    OUT_OF_RANGE = "out-of-range"
    PASSPHRASE_NEEDED = "passphrase-needed"  # noqa: S105 - a reason, no password
    PEER_IN_USE = "peer-in-use"
    POWER_TOO_HIGH = "power-too-high"
    RATE_LIMITED = "rate-limited"
    REPLAYED = "replayed"
    SELF_TRANSFER = "self-transfer"
    STAKE_NOT_WHOLE = "stake-not-whole"
    STAKE_TOO_LOW = "stake-too-low"
    TOO_DEEP = "too-deep"
    TOO_FAR_AHEAD = "too-far-ahead"
    TOO_LARGE = "too-large"
    TOO_MANY = "too-many"
    TOO_MANY_RETURNS = "too-many-returns"
    UNAVAILABLE = "unavailable"
    UNKNOWN_ACCOUNT = "unknown-account"
    UNKNOWN_AUTHORITY = "unknown-authority"
    UNKNOWN_NAME = "unknown-name"
    UNKNOWN_PARENT = "unknown-parent"
    UNKNOWN_RECORD = "unknown-record"
    UNKNOWN_SUBJECT = "unknown-subject"
    UNSUPPORTED = "unsupported"
    UNSUPPORTED_HASH = "unsupported-hash"
    VALIDATOR_JAILED = "validator-jailed"
    VALIDATOR_LEAVING = "validator-leaving"
    VALIDATOR_SET_FULL = "validator-set-full"
    WRONG_CHAIN = "wrong-chain"
    WRONG_EPOCH = "wrong-epoch"
    WRONG_PASSPHRASE = "wrong-passphrase"  # noqa: S105 - a reason, no password
    ZERO_AMOUNT = "zero-amount"


class Rejection(MpisaError):
    """Someone's bytes or request were refused: a reason for programs, a detail (what, expected, got) for people."""

    code = "rejected"

    def __init__(self, reason: RejectionReason, detail: str, *, hint: str | None = None) -> None:
        super().__init__(f"{reason.value}: {detail}", hint=hint)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Callable[..., "Rejection"], tuple[RejectionReason, str, str | None]]:
        return (_rebuild, (self.reason, self.detail, self.hint))


def _rebuild(reason: RejectionReason, detail: str, hint: str | None) -> Rejection:
    return Rejection(reason, detail, hint=hint)
