"""The options every command takes, before or after its name: --json, --quiet, --endpoint, --home.

They are kept in `Context.meta`, which click shares between the root and every nested command, so the place where an
option was written does not matter; the last one written wins.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mpisa.sdk.client import Client

_KEY = "mpisa.settings"
DEFAULT_TIMEOUT_S = 60.0
PASSPHRASE_VARIABLE = "MPISA_PASSPHRASE"  # noqa: S105 - a name, no secret


def given_passphrase() -> bytes | None:
    """What key files are sealed with, from the environment: process arguments would show it to everybody."""
    text = os.environ.get(PASSPHRASE_VARIABLE)
    return text.encode() if text else None


@dataclass(slots=True)
class Settings:
    """What the global options said. `json` and `quiet` shape output; `endpoint` and `home` choose the target."""

    json: bool = False
    quiet: bool = False
    endpoint: str | None = None
    home: Path | None = None

    def client(self, *, endpoint: str | None = None, timeout: float = DEFAULT_TIMEOUT_S) -> Client:
        """A client of the chosen node; the SDK resolves endpoint, home and token in the documented order."""
        from mpisa.sdk.client import Client

        return Client(endpoint or self.endpoint, home=self.home, timeout=timeout)

    def home_or_default(self) -> Path:
        """--home, else MPISA_HOME, else ~/.mpisa; absolute."""
        home = self.home or Path(os.environ.get("MPISA_HOME") or Path.home() / ".mpisa")
        return home.expanduser().absolute()


def current() -> Settings:
    """The settings of the running command."""
    return of(click.get_current_context())


def of(context: click.Context) -> Settings:
    """The settings that the commands of one invocation share."""
    return context.meta.setdefault(_KEY, Settings())  # type: ignore[no-any-return]


def _store(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is None or value is False:
        return
    setattr(of(context), str(parameter.name).removeprefix("global_"), value)


def global_options() -> list[click.Parameter]:
    """Fresh option objects for one command."""
    return [
        click.Option(
            ["--json", "global_json"], is_flag=True, expose_value=False, callback=_store, help="Print JSON on stdout."
        ),
        click.Option(
            ["--quiet", "-q", "global_quiet"],
            is_flag=True,
            expose_value=False,
            callback=_store,
            help="No progress and no hints on stderr.",
        ),
        click.Option(
            ["--endpoint", "global_endpoint"],
            metavar="URL",
            expose_value=False,
            callback=_store,
            help="The node to talk to.  [env: MPISA_ENDPOINT]",
        ),
        click.Option(
            ["--home", "global_home"],
            type=click.Path(path_type=Path),
            metavar="DIR",
            expose_value=False,
            callback=_store,
            help="Home of a node or a devnet.  [env: MPISA_HOME; default: ~/.mpisa]",
        ),
    ]
