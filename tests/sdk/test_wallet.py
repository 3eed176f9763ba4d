"""Key files: private, exclusive, never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from mpisa.primitives.errors import Denied, InvalidConfig, NotFound, UsageError
from mpisa.primitives.identifiers import format_address
from mpisa.sdk import wallet


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("kind", ["ed25519", "secp256k1", "ml-dsa-65"])
def test_made_listed_found_and_loaded(tmp_path: Path, kind: str) -> None:
    made = wallet.create(tmp_path, "alice", kind=kind)
    assert (mode(made.key_file), mode(made.key_file.parent)) == (0o600, 0o700)
    assert wallet.accounts(tmp_path) == (made,)
    assert wallet.find(tmp_path, "alice") == made
    key = wallet.load("alice", tmp_path)
    assert format_address(key.address) == made.address
    assert wallet.load(made.key_file) == key
    assert wallet.load(str(made.key_file)) == key
    assert key.seed.hex() not in repr(made)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    made = wallet.create(tmp_path, "alice")
    before = made.key_file.read_bytes()
    with pytest.raises(UsageError, match="keys are never overwritten"):
        wallet.create(tmp_path, "alice")
    assert made.key_file.read_bytes() == before


def test_a_file_others_can_read_is_refused(tmp_path: Path) -> None:
    made = wallet.create(tmp_path, "alice")
    for bits in (0o640, 0o604, 0o660):
        made.key_file.chmod(bits)
        with pytest.raises(Denied, match=f"others can read it \\(mode {bits & 0o777:o}, expected 600\\)") as caught:
            wallet.load("alice", tmp_path)
        assert (caught.value.hint or "").startswith(f"chmod 600 {made.key_file}")
    made.key_file.chmod(0o600)
    made.key_file.parent.chmod(0o755)
    with pytest.raises(Denied, match="expected 700"):
        wallet.create(tmp_path, "bob")


def test_passphrases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = wallet.create(tmp_path, "cold", passphrase=b"open sesame")
    assert (made.encrypted, wallet.find(tmp_path, "cold")) == (True, made)
    with pytest.raises(Denied, match="no passphrase was given") as caught:
        wallet.load("cold", tmp_path)
    assert "MPISA_PASSPHRASE" in (caught.value.hint or "")
    with pytest.raises(Denied, match="the passphrase doesn't open the key file"):
        wallet.load("cold", tmp_path, b"wrong")
    key = wallet.load("cold", tmp_path, b"open sesame")
    monkeypatch.setenv("MPISA_PASSPHRASE", "open sesame")
    assert wallet.load("cold", tmp_path) == key
    with pytest.raises(UsageError, match="an empty passphrase protects nothing"):
        wallet.create(tmp_path, "warm", passphrase=b"")


@pytest.mark.parametrize("name", ["", ".", "..", "../alice", "a/b", "a b", "-x", "x" * 64, "a\0b"])
def test_bad_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="account name"):
        wallet.create(tmp_path, name)


@pytest.mark.parametrize("data", [b"", b"{}", b"{", b"[]", b"\xff", b"x" * 100_000, b"[" * 4_000])
def test_damaged_files_are_named(tmp_path: Path, data: bytes) -> None:
    made = wallet.create(tmp_path, "alice")
    made.key_file.write_bytes(data)
    for act in (lambda: wallet.load("alice", tmp_path), lambda: wallet.accounts(tmp_path)):
        with pytest.raises(InvalidConfig, match=str(made.key_file)):
            act()


def test_a_truncated_file_is_named_and_shows_nothing(tmp_path: Path) -> None:
    made = wallet.create(tmp_path, "alice")
    seed = wallet.load("alice", tmp_path).seed.hex()
    data = made.key_file.read_bytes()
    for size in range(0, len(data) - 1, 17):
        made.key_file.write_bytes(data[:size])
        with pytest.raises(InvalidConfig) as caught:
            wallet.load("alice", tmp_path)
        assert seed not in f"{caught.value} {caught.value.hint}"


def test_missing_accounts(tmp_path: Path) -> None:
    assert wallet.accounts(tmp_path) == ()
    with pytest.raises(NotFound, match="no account in"):
        wallet.load_default(tmp_path)
    with pytest.raises(NotFound, match="no account eve in"):
        wallet.find(tmp_path, "eve")


def test_the_default_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wallet.create(tmp_path, "zoe")
    assert wallet.default_name(tmp_path) == "zoe"
    wallet.create(tmp_path, "alice")
    wallet.create(tmp_path, "aaron")
    assert wallet.default_name(tmp_path) == "alice"
    monkeypatch.setenv("MPISA_ACCOUNT", "zoe")
    assert wallet.load_default(tmp_path) == wallet.load("zoe", tmp_path)
