"""`mpisa completion SHELL`: the script a shell sources to complete commands and options."""

from __future__ import annotations

import click

from mpisa.cli.commands import command
from mpisa.cli.render import emit, hint

_WHERE = {
    "bash": "~/.local/share/bash-completion/completions/mpisa",
    "zsh": "a directory of your fpath, as _mpisa",
    "fish": "~/.config/fish/completions/mpisa.fish",
}


@command(
    "completion",
    examples=(
        "mpisa completion bash > ~/.local/share/bash-completion/completions/mpisa",
        "mpisa completion fish > ~/.config/fish/completions/mpisa.fish",
    ),
)
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
def completion(shell: str) -> None:
    """Print the completion script of a shell on stdout."""
    from click.shell_completion import get_completion_class

    from mpisa.cli.main import root

    kind = get_completion_class(shell)
    assert kind is not None, "click ships these three"
    script = kind(root, {}, "mpisa", "_MPISA_COMPLETE").source()
    emit({"shell": shell, "script": script}, script)
    hint(f"save it as {_WHERE[shell]}")
