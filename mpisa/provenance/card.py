"""A model card's front matter: the few fields that a provenance record can use, read line by line.

The block between two `---` lines is YAML; only top-level `key: scalar`, `key: [a, b]` and `key:` followed by `- item`
lines are understood, which is how cards write these fields. Whatever else stands there is passed over.
"""

from __future__ import annotations

import re
from typing import Final

MAX_CARD_LINES: Final = 2_000
MAX_CARD_ITEMS: Final = 32

_FENCE: Final = "---"
_KEY: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*):(?:\s+(.*))?$")
_ITEM: Final = re.compile(r"\s*-\s+(.*)$")


def read_front_matter(text: str) -> dict[str, tuple[str, ...]]:
    """The fields of the front matter, each as the list of its scalars; empty when there is no front matter."""
    lines = text.removeprefix("\ufeff").splitlines()[:MAX_CARD_LINES]
    if not lines or lines[0].rstrip() != _FENCE:
        return {}
    fields: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in lines[1:]:
        if line.rstrip() == _FENCE:
            return {name: tuple(items) for name, items in fields.items()}
        key = _KEY.match(line)
        if key:
            current = fields.setdefault(key.group(1), [])
            current.extend(_scalars(key.group(2) or "")[: MAX_CARD_ITEMS - len(current)])
            continue
        item = _ITEM.match(line)
        if item and current is not None and len(current) < MAX_CARD_ITEMS:
            current.extend(_scalars(item.group(1))[:1])
        elif line.strip() and not line.startswith((" ", "\t", "#", "-")):
            current = None
    return {}


def _scalars(text: str) -> list[str]:
    text = _without_comment(text).strip()
    if text.startswith("[") and text.endswith("]"):
        items = [_unquoted(item) for item in text[1:-1].split(",")]
        return [item for item in items if item]
    scalar = _unquoted(text)
    return [scalar] if scalar and scalar[0] not in "|>{&*!" else []


def _without_comment(text: str) -> str:
    if text.startswith("#"):
        return ""
    return text.split(" #", 1)[0]


def _unquoted(text: str) -> str:
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].strip()
    return text
