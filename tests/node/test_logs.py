"""Logs: what an error shows, and what it must not."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from mpisa.config import LogConfig, LogFormat
from mpisa.node.logs import configure_logging

SECRET = bytes(range(65, 97)).decode()


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        if handler not in handlers:
            handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)
    structlog.reset_defaults()


def use(seed: str) -> None:
    raise ValueError(f"a fault with {len(seed)} characters")


@pytest.mark.parametrize("form", list(LogFormat))
def test_an_error_is_shown_without_the_variables_around_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], form: LogFormat
) -> None:
    file = tmp_path / "log" / "node.log"
    configure_logging(LogConfig(format=form), file)
    try:
        use(SECRET)
    except ValueError as error:
        structlog.get_logger("mpisa.test").error("it failed", exc_info=error)
        logging.getLogger("aiohttp.server").error("it failed too", exc_info=error)
    for text in (file.read_text(), capsys.readouterr().err):
        assert text.count("a fault with 32 characters") == 2
        assert SECRET not in text
