"""The kinds of click command this program is made of.

`Command` takes the global options and shows its examples; `Group` is the same for a noun with verbs; `LazyGroup` knows
the names and one-line descriptions of its commands and imports a command's module only when it is run.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import click

from mpisa.cli.settings import global_options

_GLOBAL_NAMES = frozenset(str(option.name) for option in global_options())


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives, and what its group's help says of it without importing it."""

    module: str
    attribute: str
    help: str
    section: str


def _format_examples(formatter: click.HelpFormatter, examples: Iterable[str]) -> None:
    lines = [f"  {line}" for line in examples]
    if lines:
        formatter.write_paragraph()
        formatter.write("Examples:\n" + "\n".join(lines) + "\n")


def _format_options(command: click.Command, context: click.Context, formatter: click.HelpFormatter) -> None:
    own: list[tuple[str, str]] = []
    common: list[tuple[str, str]] = []
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            (common if parameter.name in _GLOBAL_NAMES else own).append(record)
    for title, records in (("Options", own), ("Options of every command", common)):
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class Command(click.Command):
    """A verb: global options are accepted after its name too, and its help ends with examples."""

    def __init__(self, *args: Any, examples: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.extend(global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_options(self, ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_examples(formatter, self.examples)


class Group(click.Group):
    """A noun with verbs."""

    command_class = Command

    def __init__(self, *args: Any, examples: Iterable[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.params.extend(global_options())

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_options(self, ctx, formatter)
        self.format_commands(ctx, formatter)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _format_examples(formatter, self.examples)


class LazyGroup(Group):
    """A group whose commands are imported on use; its help needs none of them."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return None
        command = getattr(importlib.import_module(entry.module), entry.attribute)
        assert isinstance(command, click.Command), f"{entry.module}.{entry.attribute} is no command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.lazy and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.exceptions.NoSuchCommand(name, possibilities=self.lazy, ctx=ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self.lazy.items():
            sections.setdefault(entry.section, []).append((name, entry.help))
        width = max(len(name) for name in self.lazy)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in rows])


def command(name: str, *, examples: Iterable[str] = (), **kwargs: Any) -> Callable[[Callable[..., Any]], Command]:
    """Declare a verb of the top level."""
    return click.command(name, cls=Command, examples=examples, **kwargs)


def group(name: str, *, examples: Iterable[str] = (), **kwargs: Any) -> Callable[[Callable[..., Any]], Group]:
    """Declare a noun."""
    return click.group(name, cls=Group, examples=examples, **kwargs)
