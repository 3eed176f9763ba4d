"""Accounts of a home: key files in HOME/accounts/<name>.json, readable by their owner alone.

Files are made 0600 and never overwritten, the directory 0700; a file that others can read is refused with the command
that cures it. A passphrase comes from an argument or MPISA_PASSPHRASE. Keys are never shown: not here, not in errors.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mpisa.primitives.errors import Denied, InvalidConfig, NotFound, Rejection, RejectionReason, UsageError
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.key_file import MAX_KEY_FILE_BYTES, decode_key_file, encode_key_file, is_sealed
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key

ACCOUNTS: Final = "accounts"
ACCOUNT_VARIABLE: Final = "MPISA_ACCOUNT"
PASSPHRASE_VARIABLE: Final = "MPISA_PASSPHRASE"  # noqa: S105 - the variable's name
DEFAULT_ACCOUNT: Final = "alice"
MAX_ACCOUNTS: Final = 10_000

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True)
class WalletAccount:
    """An account as its key file tells it, without the key. `encrypted`: a passphrase is needed to sign."""

    name: str
    address: str
    key_file: Path
    kind: str
    encrypted: bool


def create(home: Path, name: str, *, kind: str = "ed25519", passphrase: bytes | None = None) -> WalletAccount:
    """Make an account with a fresh random key. Raises UsageError for a bad or taken name."""
    if not _NAME.fullmatch(name):
        raise UsageError(f"account name: expected 1 to 63 letters, digits, dots, dashes, got {name[:80]!r}")
    try:
        key_kind = KeyKind(kind)
    except ValueError:
        raise UsageError(f"kind: expected one of {', '.join(item.value for item in KeyKind)}, got {kind!r}") from None
    if passphrase == b"":
        raise UsageError("an empty passphrase protects nothing", hint="leave it out, or choose one")
    key = private_key(key_kind, os.urandom(32))
    data = encode_key_file(key, passphrase=passphrase, salt=os.urandom(16), nonce=os.urandom(12))
    directory = Path(home) / ACCOUNTS
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _require_private(directory, "700")
    path = directory / f"{name}.json"
    _write_new(path, data)
    return WalletAccount(name, format_address(key.public_key.address), path, key_kind.value, passphrase is not None)


def accounts(home: Path) -> tuple[WalletAccount, ...]:
    """The accounts of a home by name; files that aren't key files raise InvalidConfig."""
    directory = Path(home) / ACCOUNTS
    paths = sorted(directory.glob("*.json")) if directory.is_dir() else []
    return tuple(_describe(path) for path in paths[:MAX_ACCOUNTS])


def find(home: Path, name: str) -> WalletAccount:
    """One account of a home; raises NotFound."""
    return _describe(_path_of(name, Path(home)))


def default_name(home: Path) -> str:
    """MPISA_ACCOUNT, else alice where there is one, else the first by name; raises NotFound when there is none."""
    chosen = os.environ.get(ACCOUNT_VARIABLE)
    if chosen:
        return chosen
    names = sorted(path.stem for path in (Path(home) / ACCOUNTS).glob("*.json"))
    if not names:
        raise NotFound(
            f"no account in {home}", hint="make one: `mpisa wallet new NAME`, or a devnet: `mpisa devnet up`"
        )
    return DEFAULT_ACCOUNT if DEFAULT_ACCOUNT in names else names[0]


def load_default(home: Path, passphrase: bytes | None = None) -> PrivateKey:
    """The key of the default account."""
    return load(default_name(home), home, passphrase)


def load(account: str | Path, home: Path | None = None, passphrase: bytes | None = None) -> PrivateKey:
    """The key of an account of the home, or in a key file (a Path, or text with a slash).

    Raises NotFound, Denied for a file that others can read and for a missing or wrong passphrase, InvalidConfig for a
    file that is no key file.
    """
    path = account if isinstance(account, Path) else _path_of(account, home)
    data = _read_private(path)
    if _describe_data(path, data).encrypted and passphrase is None:
        given = os.environ.get(PASSPHRASE_VARIABLE)
        if given is None:
            raise Denied(f"{path}: encrypted, and no passphrase was given", hint=f"set {PASSPHRASE_VARIABLE}")
        passphrase = given.encode()
    try:
        return decode_key_file(data, passphrase)
    except Rejection as error:
        raise _bad_key_file(path, error) from None


def _path_of(account: str, home: Path | None) -> Path:
    if "/" in account:
        return Path(account).expanduser()
    if not _NAME.fullmatch(account):
        raise UsageError(f"account name: expected 1 to 63 letters, digits, dots, dashes, got {account[:80]!r}")
    if home is None:
        raise UsageError(f"account {account}: which home?", hint="give --home, or the key file's path")
    path = Path(home) / ACCOUNTS / f"{account}.json"
    if not path.exists():
        raise NotFound(f"no account {account} in {home}", hint="`mpisa wallet ls` lists accounts")
    return path


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidConfig(f"{path}: expected a key file")
            _require_mode(path, status.st_mode, "600")
            data = stream.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        raise NotFound(f"no such key file: {path}", hint="`mpisa wallet ls` lists accounts") from None
    except IsADirectoryError:
        raise InvalidConfig(f"{path}: expected a key file, found a directory") from None
    if len(data) > MAX_KEY_FILE_BYTES:
        raise InvalidConfig(f"{path}: longer than {MAX_KEY_FILE_BYTES} bytes: no key file")
    return data


def _require_private(path: Path, mode: str) -> None:
    _require_mode(path, path.stat().st_mode, mode)


def _require_mode(path: Path, found: int, wanted: str) -> None:
    if found & 0o077:
        raise Denied(
            f"{path}: others can read it (mode {found & 0o777:o}, expected {wanted})",
            hint=f"chmod {wanted} {path}; if others had access, make a new key",
        )


def _write_new(path: Path, data: bytes) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise UsageError(f"{path} exists already: keys are never overwritten", hint="choose another name") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _describe(path: Path) -> WalletAccount:
    return _describe_data(path, _read_private(path))


def _describe_data(path: Path, data: bytes) -> WalletAccount:
    try:
        encrypted = is_sealed(data)
    except Rejection as error:
        raise _bad_key_file(path, error) from None
    body = json.loads(data)
    return WalletAccount(path.stem, body["address"], path, body["kind"], encrypted)


def _bad_key_file(path: Path, error: Rejection) -> Denied | InvalidConfig:
    if error.reason is RejectionReason.WRONG_PASSPHRASE:
        return Denied(f"{path}: {error.detail}", hint="check the passphrase: there is no other way in")
    return InvalidConfig(f"{path}: {error.detail}", hint=error.hint or "restore it from a copy")
