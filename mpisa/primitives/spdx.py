"""SPDX licence expressions, checked for shape: identifiers joined by AND, OR and WITH, in balanced parentheses.

The list of known licences is not consulted: it changes every few months, and every node must judge the same bytes the
same way. `LicenseRef-...` names a licence that is not on the list.
"""

from __future__ import annotations

import re
from typing import Final

from mpisa.primitives.errors import Rejection, RejectionReason

MAX_LICENSE_LENGTH: Final = 200
MAX_LICENSE_NESTING: Final = 8

_TOKEN: Final = re.compile(r"[()]|[A-Za-z0-9.+:-]+")
_IDENTIFIER: Final = re.compile(r"(?:DocumentRef-[A-Za-z0-9.-]+:LicenseRef-)?[A-Za-z0-9][A-Za-z0-9.-]*\+?")
_OPERATORS: Final = frozenset({"AND", "OR", "WITH"})


def validate_license(text: str) -> None:
    """Raise Rejection(BAD_LICENSE) unless `text` has the shape of an SPDX licence expression."""
    if not 0 < len(text) <= MAX_LICENSE_LENGTH:
        raise _bad(f"expected 1 to {MAX_LICENSE_LENGTH} characters, got {len(text)}")
    if text != " ".join(text.split(" ")) or text.strip(" ") != text or "  " in text:
        raise _bad("expected single spaces, none at the ends")
    words = _TOKEN.findall(text)
    if "".join(words) != text.replace(" ", ""):
        raise _bad("expected letters, digits, '.', '-', '+', ':' and parentheses only")
    _validate_words(words)


def _validate_words(words: list[str]) -> None:
    depth = 0
    operand_expected = True
    after_with = False
    exception_taken = False
    for word in words:
        if operand_expected:
            if word == "(" and not after_with:
                depth += 1
                if depth > MAX_LICENSE_NESTING:
                    raise _bad(f"parentheses nest deeper than {MAX_LICENSE_NESTING}")
            elif word in _OPERATORS or not _IDENTIFIER.fullmatch(word):
                raise _bad(f"expected a licence identifier, got {word!r}")
            else:
                operand_expected = False
                exception_taken = after_with
                after_with = False
        elif word == ")":
            if depth == 0:
                raise _bad("a ')' without its '('")
            depth -= 1
            exception_taken = True
        elif word in _OPERATORS:
            if word == "WITH" and exception_taken:
                raise _bad("WITH must follow a licence identifier")
            operand_expected = True
            after_with = word == "WITH"
        else:
            raise _bad(f"expected AND, OR or WITH, got {word!r}")
    if operand_expected:
        raise _bad("ends where a licence identifier is expected")
    if depth:
        raise _bad("a '(' without its ')'")


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_LICENSE, f"licence: {detail}")
