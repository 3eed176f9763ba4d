"""The command line's manners: help, mistakes, exit codes, JSON errors, and how little it imports."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mpisa.cli.commands import Command, Group
from mpisa.cli.main import TREE, root, run

ROOT = Path(__file__).parents[2]


def every_command() -> list[tuple[str, click.Command]]:
    """All commands of the tree, by the words that call them."""
    context = click.Context(root)
    found: list[tuple[str, click.Command]] = []
    for name in TREE:
        command = root.get_command(context, name)
        assert command is not None
        found.append((name, command))
        if isinstance(command, click.Group):
            found += [(f"{name} {verb}", inner) for verb, inner in command.commands.items()]
    return found


@pytest.mark.parametrize(
    ("words", "command"), every_command(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_command_has_help_an_example_and_the_global_options(words: str, command: click.Command) -> None:
    assert isinstance(command, (Command, Group))
    assert command.help
    assert command.examples
    assert all(example.split("|")[-1].strip().startswith("mpisa") or "mpisa" in example for example in command.examples)
    names = {option for parameter in command.params for option in parameter.opts}
    assert {"--json", "--quiet", "--endpoint", "--home"} <= names


def test_the_tree_holds_what_was_promised() -> None:
    words = {words for words, _ in every_command()}
    promised = (
        "devnet up|down|status|logs|reset",
        "node init|run|status|peers|gc|verify|repair|join|leave|bond|unbond|rotate-keys",
        "blob cid|ls|stat|verify|pin|unpin|pins|export-car|import-car",
        "chain head|block|tx|account|stake|validators|state|proof|verify|decide|watch",
        "wallet new|ls|faucet|send",
        "bench network",
    )
    wanted = {f"{line.split()[0]} {verb}" for line in promised for verb in line.split()[1].split("|")}
    assert wanted | {"put", "get", "publish", "lineage", "verify", "selftest", "completion", "demo"} <= words


def test_help_imports_neither_the_node_nor_a_transport() -> None:
    program = (
        "import sys; from mpisa.cli.main import run; run(['--help']);"
        "print([n for n in ('aiohttp', 'asyncio', 'libp2p', 'rich', 'cryptography', 'msgspec') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_mistyped_command_is_named_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pulish", "x"]) == 2
    assert capsys.readouterr().err == "error: No such command 'pulish'.\nhint:  did you mean `publish`?\n"
    assert run(["devnet", "dwon"]) == 2
    assert capsys.readouterr().err == "error: No such command 'dwon'.\nhint:  did you mean `down`?\n"


def test_a_mistyped_option_is_named_with_what_was_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chain", "head", "--jsn"]) == 2
    assert capsys.readouterr().err == "error: No such option '--jsn'.\nhint:  did you mean `--json`?\n"


def test_a_missing_argument_is_a_usage_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "--json"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err) == {
        "error": {"code": "usage", "message": "Missing argument 'CID|NAME[/PATH]'.", "hint": "see `mpisa get --help`"}
    }


def test_no_node_is_unreachable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MPISA_ENDPOINT", raising=False)
    assert run(["chain", "head", "--home", str(tmp_path)]) == 6
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"error: no node is set up in {tmp_path}\nhint:  ")


def test_a_closed_port_is_unreachable_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--json", "--endpoint", "http://127.0.0.1:9", "chain", "head", "--home", str(tmp_path)]) == 6
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "unreachable"


def test_a_missing_path_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = tmp_path / "missing"
    assert run(["put", str(missing), "--home", str(tmp_path)]) == 3
    assert capsys.readouterr().err == (
        f"error: no such file or directory: {missing}\nhint:  check the path; `-` reads stdin\n"
    )


def test_no_devnet_is_not_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("down", "status", "logs"):
        assert run(["devnet", verb, "--home", str(tmp_path)]) == 3
        assert capsys.readouterr().err.startswith(f"error: no devnet in {tmp_path}\n")


def test_global_options_count_before_and_after_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--json", "--home", str(tmp_path), "wallet", "ls"],
        ["wallet", "--home", str(tmp_path), "ls", "--json"],
        ["wallet", "ls", "--json", "--home", str(tmp_path)],
    ):
        assert run(arguments) == 0
        assert json.loads(capsys.readouterr().out) == {"accounts": []}


def test_hints_are_on_stderr_and_quiet_silences_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["wallet", "ls", "--home", str(tmp_path)]) == 0
    assert "mpisa wallet new NAME" in capsys.readouterr().err
    assert run(["wallet", "ls", "--home", str(tmp_path), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_broken_pipe_is_quiet(tmp_path: Path) -> None:
    big = tmp_path / "case.json"
    vertices = [{"id": f"r1.v{at}", "round": 1, "author": at, "parents": ["g0"]} for at in range(2)]
    case = {"authorities": 2, "stakes": [1, 1], "leaders_per_round": 1, "leaders": None, "gc_depth": 60,
            "resume_after": None, "vertices": vertices}  # fmt: skip
    big.write_text(json.dumps({"cases": [case] * 2000}))
    process = subprocess.Popen(
        [sys.executable, "-m", "mpisa.cli", "chain", "decide", str(big)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(60) == 1


def test_interrupt_is_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from mpisa.cli import failures

    assert failures.report(KeyboardInterrupt(), []) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_no_colour_where_nobody_looks() -> None:
    environment = os.environ | {"NO_COLOR": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mpisa.cli", "nothing"], cwd=ROOT, env=environment, capture_output=True, check=False
    )
    assert b"\x1b" not in done.stderr


def test_completion_scripts_name_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert run(["completion", shell]) == 0
        assert "_MPISA_COMPLETE" in capsys.readouterr().out


def test_selftest_passes_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["selftest", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["ok"] is True
    assert {check["name"] for check in answer["checks"]} >= {"codec", "keys", "merkle", "disk", "ports", "versions"}
