"""Commands that need no node: blob cid, chain decide, wallet."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from mpisa.cli.main import run

VECTORS = Path(__file__).parents[1] / "vectors"


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_decide_answers_every_case_of_the_vectors(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    cases = json.loads((VECTORS / "commit_rule.json").read_text())["cases"]
    assert answer(capsys, "chain", "decide", str(VECTORS / "commit_rule.json")) == [case["expect"] for case in cases]
    single = tmp_path / "case.json"
    single.write_text(json.dumps(cases[0]))
    assert answer(capsys, "chain", "decide", str(single)) == cases[0]["expect"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "expected a JSON object, found list"),
        ('{"cases": 1}', "cases: expected a list, found int"),
    ],
)
def test_decide_says_what_is_wrong_with_a_file(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "case.json"
    file.write_text(text)
    assert run(["chain", "decide", str(file)]) == 2
    assert capsys.readouterr().err == f"error: {file}: {message}\n"


def test_decide_names_the_case_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "case.json"
    file.write_text('{"cases": [{}]}')
    assert run(["chain", "decide", str(file)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {file}: case 0: malformed: ")


def test_blob_cid_of_a_file_a_directory_and_stdin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "empty"
    file.write_bytes(b"")
    known = {"cid": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}
    assert answer(capsys, "blob", "cid", str(file)) == known
    old = answer(capsys, "blob", "cid", str(file), "--profile", "unixfs-v0-2015")
    assert old == {"cid": "QmbFMke1KXqnYyBBWxB74N4c5SBnJMVAiMNRcGu6x1AwQH"}
    again = answer(
        capsys, "blob", "cid", str(file), "--profile", "unixfs-v0-2015", "--cid-version", "1", "--raw-leaves"
    )
    assert again == known
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert answer(capsys, "blob", "cid", "-") == known


def test_blob_cid_refuses_values_out_of_range(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["blob", "cid", str(tmp_path), "--chunk-size", "0"]) == 2
    assert "chunk size must be from 1 to" in capsys.readouterr().err
    assert run(["blob", "cid", str(tmp_path / "absent")]) == 3


def test_wallet_makes_accounts_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = ("--home", str(tmp_path))
    made = answer(capsys, "wallet", "new", "zoe", *home)
    assert made["name"] == "zoe"
    assert Path(made["key_file"]).stat().st_mode & 0o777 == 0o600
    assert answer(capsys, "wallet", "ls", *home) == {"accounts": [made]}
    assert run(["wallet", "new", "zoe", *home]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_wallet_encrypts_with_a_passphrase_from_the_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPISA_PASSPHRASE", "correct horse")
    made = answer(capsys, "wallet", "new", "cold", "--kind", "ml-dsa-65", "--passphrase", "--home", str(tmp_path))
    body = json.loads(Path(made["key_file"]).read_text())
    assert made["kind"] == "ml-dsa-65"
    assert "seed" not in body
    assert "ciphertext" in body
    plain = answer(capsys, "wallet", "new", "warm", "--home", str(tmp_path))
    assert "seed" in json.loads(Path(plain["key_file"]).read_text())
