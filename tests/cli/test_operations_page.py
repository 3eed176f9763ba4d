"""Every command in docs/operations.md and in the README exists and takes the options it is shown with."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from mpisa.cli.main import root

ROOT = Path(__file__).parents[2]


def shown(page: str) -> list[str]:
    """What stands in indented blocks and in backticks, from `mpisa` to the end of the command."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = re.findall(r"^ {4}(mpisa .*)$", text, re.MULTILINE) + re.findall(r"`(mpisa [a-z][^`]*)`", text)
    return sorted({line.partition("#")[0].split("&&")[0].strip() for line in lines})


@pytest.mark.parametrize("line", [*shown("docs/operations.md"), *shown("README.md")])
def test_a_command_of_the_page_can_be_typed(line: str) -> None:
    words = shlex.split(re.sub(r"\$\([^()]*\)|\"\$\(.*?\)\"", "X", line))[1:]
    command: click.Command = root
    context = click.Context(root)
    while isinstance(command, click.Group):
        if words and words[0].startswith("--"):  # an option of every command, before the command's name
            words = words[2:]
            continue
        if not words:
            return
        found = command.get_command(context, words.pop(0))
        assert found is not None, line
        command = found
        context = click.Context(command, parent=context)
    command.make_parser(context).parse_args(words)
