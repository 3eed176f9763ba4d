"""What of a directory is left out: patterns as in a .gitignore, from a file in its root and from the caller.

`.mpisaignore` in the root is read unless the caller says otherwise; it belongs to the tree like any file, so whoever
fetches the tree can tell its CID again. A directory that is left out is not looked into, so nothing below it can be
taken back by a later `!pattern`. Callers' patterns come last and win. The same rules serve put, publish and blob cid.

The rules are git's: the last pattern that fits decides; a pattern with a slash before its end is meant from the root
on, another one at any depth; a slash at its end means directories only; `**` stands for any directories. Refused where
git is silent: brackets that don't close, classes by name such as [[:alpha:]], a backslash at the end.
"""

from __future__ import annotations

import fnmatch
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mpisa.primitives.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

IGNORE_FILE: Final = ".mpisaignore"
MAX_RULES_BYTES: Final = 1 << 20
MAX_PATTERNS: Final = 10_000
MAX_PATTERN_CHARACTERS: Final = 4_096
_HINT: Final = "the syntax is that of a .gitignore"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One pattern: names from the root on, None for any directories; what it says about what fits."""

    segments: tuple[re.Pattern[str] | None, ...]
    takes_back: bool
    directories_only: bool

    def fits(self, parts: Sequence[str]) -> bool:
        """Whether a path, by its names, is what the pattern means."""
        segments = self.segments
        at = part = 0
        any_at, any_part = -1, 0
        while part < len(parts):
            segment = segments[at] if at < len(segments) else _END
            if segment is None:
                any_at, any_part = at, part
                at += 1
                if at == len(segments):
                    return True
            elif segment is not _END and segment.match(parts[part]):
                at, part = at + 1, part + 1
            elif any_at >= 0:  # let the last ** stand for one directory more
                any_part += 1
                at, part = any_at + 1, any_part
            else:
                return False
        return at == len(segments)


_END: Final = re.compile(r"(?!)")


def parse_pattern(line: str) -> Pattern | None:
    """From a line; None for a comment or an empty one. Raises UsageError."""
    text = _trimmed(line)
    if not text or text.startswith("#"):
        return None
    takes_back = text.startswith("!")
    text = text.removeprefix("!")
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise UsageError(f"a pattern has {len(text)} characters, at most {MAX_PATTERN_CHARACTERS} are taken")
    directories_only = text.endswith("/")
    text = text.removesuffix("/")
    names = text.split("/")
    if not text or not any(names):
        raise UsageError(f"pattern {line[:60]!r} names nothing", hint=_HINT)
    if len(names) == 1:
        names = ["**", *names]
    elif not names[0]:
        names = names[1:]
    segments = tuple(None if name == "**" else re.compile(_expression(name, line)) for name in names)
    return Pattern(segments, takes_back, directories_only)


def _trimmed(line: str) -> str:
    text = line.removesuffix("\r")
    while text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1]
    return text


def _expression(name: str, line: str) -> str:
    """One name with `*`, `?` and brackets as a regular expression that can't take exponential time."""
    out: list[str] = []
    at = 0
    while at < len(name):
        character = name[at]
        if character == "\\":
            if at + 1 == len(name):
                raise UsageError(f"pattern {line[:60]!r} ends with a backslash", hint=_HINT)
            out.append(f"[{name[at + 1]}]" if name[at + 1] in "*?[" else name[at + 1])
            at += 2
        elif character == "[":
            end = name.find("]", at + (3 if name[at + 1 : at + 2] in ("!", "^") else 2))
            inner = name[at + 1 : end]
            if end < 0 or "[:" in inner or "\\" in inner:
                raise UsageError(f"pattern {line[:60]!r}: brackets that aren't understood", hint=_HINT)
            out.append("[" + ("!" + inner[1:] if inner[0] == "^" else inner) + "]")
            at = end + 1
        else:
            out.append(character)
            at += 1
    return fnmatch.translate("".join(out))


class Ignore:
    """The rules for one tree; nothing is left out where there are none."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(reversed(patterns))

    def hides(self, name: str, is_directory: bool) -> bool:
        """Whether the entry at a path below the root is left out, and with it what lies below."""
        parts = name.split("/")
        for pattern in self._patterns:
            if (is_directory or not pattern.directories_only) and pattern.fits(parts):
                return not pattern.takes_back
        return False


def read_rules(root: Path, patterns: Sequence[str] = (), *, use_file: bool = True) -> Ignore:
    """The rules of a tree. Raises UsageError for a pattern or a file that makes no sense."""
    lines = [*(_lines(root / IGNORE_FILE) if use_file and root.is_dir() else ()), *patterns]
    if len(lines) > MAX_PATTERNS:
        raise UsageError(f"{len(lines)} lines of what to ignore, at most {MAX_PATTERNS} are taken")
    return Ignore([pattern for line in lines if (pattern := parse_pattern(line)) is not None])


def _lines(file: Path) -> list[str]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return []
    except OSError as error:
        hint = "remove it, or give --no-ignore-file"
        raise UsageError(f"{file} can't be read: {error.strerror}", hint=hint) from None
    with os.fdopen(descriptor, "rb") as stream:
        raw = stream.read(MAX_RULES_BYTES + 1)
    if len(raw) > MAX_RULES_BYTES:
        raise UsageError(f"{file} has more than {MAX_RULES_BYTES} bytes")
    try:
        return raw.decode().split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{file} isn't UTF-8") from None
