"""A narrated walk: runs the very commands a person would type, checks the answers, stops at the first failure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from mpisa.primitives.errors import IntegrityError, MpisaError, TimedOut

COMMAND_TIMEOUT_S = 180.0
TIDY_UP_S = 20.0
POLL_S = 0.1
T = TypeVar("T")
_OURS = ("MPISA_HOME", "MPISA_ENDPOINT", "MPISA_TOKEN", "MPISA_DEBUG")


class CommandFailed(MpisaError):
    """A command of the walk ended with another exit code than it should."""

    code = "command-failed"


def _colours() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


@dataclass(slots=True)
class Walk:
    """One run: `home` is the devnet's; `passed` collects the checks that held, in words."""

    home: Path
    passed: list[str] = field(default_factory=list)
    quiet: bool = False

    def say(self, text: str = "") -> None:
        """Narrate."""
        if not self.quiet:
            print(text, flush=True)

    def step(self, number: int, title: str) -> None:
        """Open a step."""
        heading = f"{number}. {title}"
        self.say(f"\n{click.style(heading, bold=True) if _colours() else heading}")

    def check(self, holds: bool, what: str, found: object = None) -> None:
        """A check: say that it held, or raise IntegrityError with what was found instead."""
        if not holds:
            raise IntegrityError(f"check failed: {what}" + (f"; found {found}" if found is not None else ""))
        self.passed.append(what)
        self.say(f"   {click.style('ok', fg='green') if _colours() else 'ok'}  {what}")

    def environment(self) -> dict[str, str]:
        """The caller's environment, with our own home as the only target."""
        inherited = {name: value for name, value in os.environ.items() if name not in _OURS}
        return inherited | {"MPISA_HOME": str(self.home)}

    def mpisa(self, *arguments: str, expect: int = 0, show: bool = True) -> Any:
        """Run `mpisa ARGUMENTS --json` and return what it printed; raises CommandFailed for another exit code."""
        if show:
            self.say(f"   $ mpisa {' '.join(_short(argument) for argument in arguments)}")
        code, output, errors = _run([sys.executable, "-m", "mpisa.cli", *arguments, "--json"], self.environment())
        if code != expect:
            raise CommandFailed(
                f"`mpisa {' '.join(arguments)}` exited with {code}, expected {expect}\n{errors.strip()}"
            )
        return json.loads(output) if output.strip() else {}

    def show(self, facts: Mapping[str, object]) -> None:
        """A few facts, aligned."""
        width = max(len(name) for name in facts)
        for name, value in facts.items():
            self.say(f"      {name.ljust(width)}  {value}")


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run to the end; when we are interrupted the command is asked to end too, and given time to tidy up."""
    process = subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=COMMAND_TIMEOUT_S)
    except BaseException:
        process.terminate()
        try:
            process.communicate(timeout=TIDY_UP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        raise
    return process.returncode, output, errors


def _short(argument: str) -> str:
    return f"{argument[:12]}...{argument[-6:]}" if argument.startswith("bafy") and len(argument) > 30 else argument


def wait_for(probe: Callable[[], T | None], timeout_s: float, what: str) -> T:
    """Ask until there is an answer. Raises TimedOut."""
    deadline = time.monotonic() + timeout_s
    while (answer := probe()) is None:
        if time.monotonic() > deadline:
            raise TimedOut(f"{what}: not within {timeout_s:g} s")
        time.sleep(POLL_S)
    return answer
