"""Logs: structured, one line an event, rotated and bounded. Nothing logs a key or a whole config.

Lines go to HOME/log/node.log; warnings and worse go to stderr too, so that a person at a terminal, or the parent of a
devnet, sees why a node stopped.
"""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from typing import TYPE_CHECKING

import structlog

from mpisa.config import LogFormat

if TYPE_CHECKING:
    from pathlib import Path

    from structlog.typing import Processor

    from mpisa.config import LogConfig


def configure_logging(config: LogConfig, file: Path) -> None:
    """Sets up logging for this process: `max_bytes` a file, `files` files kept."""
    file.parent.mkdir(parents=True, exist_ok=True)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        # What is below the level costs nothing: blocks say so much at debug level.
        wrapper_class=structlog.make_filtering_bound_logger(config.level.value),
        cache_logger_on_first_use=True,
    )
    to_file = RotatingFileHandler(file, maxBytes=config.max_bytes, backupCount=config.files - 1, encoding="utf-8")
    to_file.setFormatter(_formatter(shared, config.format))
    to_person = logging.StreamHandler(sys.stderr)
    to_person.setFormatter(_formatter(shared, LogFormat.CONSOLE))
    to_person.setLevel(logging.WARNING)
    root = logging.getLogger()
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    root.addHandler(to_file)
    root.addHandler(to_person)
    root.setLevel(config.level.value.upper())
    for noisy in ("libp2p", "multiaddr", "aiohttp.access", "trio", "zeroconf"):
        logging.getLogger(noisy).setLevel(logging.WARNING if noisy != "libp2p" else logging.ERROR)


def _formatter(shared: list[Processor], kind: LogFormat) -> structlog.stdlib.ProcessorFormatter:
    last: Processor
    if kind is LogFormat.JSON:
        tail: list[Processor] = [structlog.processors.format_exc_info]
        last = structlog.processors.JSONRenderer()
    else:
        # The plain traceback: the one by rich shows local variables, and among those may be keys and tokens.
        plain = structlog.dev.plain_traceback
        tail, last = [], structlog.dev.ConsoleRenderer(colors=False, exception_formatter=plain)
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *tail, last],
    )
