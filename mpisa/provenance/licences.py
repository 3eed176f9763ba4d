"""Which licence a text or a model card's identifier stands for, as an SPDX expression; None when it isn't certain.

A guess is only offered to the publisher, who signs it: a text that could be two licences is none.
"""

from __future__ import annotations

import re
from typing import Final

from mpisa.primitives.errors import Rejection
from mpisa.primitives.spdx import validate_license

# Identifiers of model cards (lower case) whose SPDX spelling differs in more than nothing.
_SPDX_IDENTIFIERS: Final = (
    "AFL-3.0",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "CC-BY-2.0",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-3.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "CDLA-Sharing-1.0",
    "ECL-2.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "ISC",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "LPPL-1.3c",
    "MIT",
    "MPL-2.0",
    "MS-PL",
    "MulanPSL-2.0",
    "NCSA",
    "ODbL-1.0",
    "ODC-By-1.0",
    "OFL-1.1",
    "OSL-3.0",
    "PDDL-1.0",
    "PostgreSQL",
    "Python-2.0",
    "Unlicense",
    "WTFPL",
    "Zlib",
)
_CARD_IDENTIFIERS: Final = {text.lower(): text for text in _SPDX_IDENTIFIERS} | {
    "agpl-3.0": "AGPL-3.0-only",
    "gpl-2.0": "GPL-2.0-only",
    "gpl-3.0": "GPL-3.0-only",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-3.0": "LGPL-3.0-only",
    "odbl": "ODbL-1.0",
    "odc-by": "ODC-By-1.0",
    "pddl": "PDDL-1.0",
    "mulanpsl-2.0": "MulanPSL-2.0",
}
_UNCERTAIN: Final = frozenset({"", "unknown", "other", "none", "null", "~"})
_CARD_WORD: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")

# Every phrase must be in the text; the first match of a family wins, from the more special to the more general.
_TEXTS: Final = (
    ("Apache-2.0", "apache", ("apache license", "version 2.0, january 2004")),
    ("MIT", "mit", ("permission is hereby granted, free of charge, to any person obtaining a copy", "as is")),
    ("BSD-3-Clause", "bsd", ("redistribution and use in source and binary forms", "neither the name")),
    ("BSD-2-Clause", "bsd", ("redistribution and use in source and binary forms", "this list of conditions")),
    ("ISC", "isc", ("permission to use, copy, modify, and/or distribute this software for any purpose",)),
    ("AGPL-3.0-only", "gnu", ("gnu affero general public license version 3",)),
    ("LGPL-3.0-only", "gnu", ("gnu lesser general public license version 3",)),
    ("LGPL-2.1-only", "gnu", ("gnu lesser general public license version 2.1",)),
    ("GPL-3.0-only", "gnu", ("gnu general public license version 3",)),
    ("GPL-2.0-only", "gnu", ("gnu general public license version 2",)),
    ("MPL-2.0", "mpl", ("mozilla public license version 2.0",)),
    ("CC-BY-NC-ND-4.0", "cc", ("attribution-noncommercial-noderivatives 4.0 international",)),
    ("CC-BY-NC-SA-4.0", "cc", ("attribution-noncommercial-sharealike 4.0 international",)),
    ("CC-BY-NC-4.0", "cc", ("attribution-noncommercial 4.0 international",)),
    ("CC-BY-ND-4.0", "cc", ("attribution-noderivatives 4.0 international",)),
    ("CC-BY-SA-4.0", "cc", ("attribution-sharealike 4.0 international",)),
    ("CC-BY-4.0", "cc", ("attribution 4.0 international",)),
    ("CC0-1.0", "cc0", ("cc0 1.0 universal",)),
    ("Unlicense", "unlicense", ("this is free and unencumbered software released into the public domain",)),
)


def license_of_identifier(identifier: str) -> str | None:
    """The SPDX expression for a model card's `license:` value; hub-specific ones become a LicenseRef."""
    word = identifier.strip().lower()
    if word in _UNCERTAIN:
        return None
    known = _CARD_IDENTIFIERS.get(word)
    if known is not None:
        return known
    if _CARD_WORD.fullmatch(word):
        return f"LicenseRef-{word}"
    try:
        validate_license(identifier.strip())
    except Rejection:
        return None
    return identifier.strip()


def license_of_text(text: str) -> str | None:
    """The SPDX identifier of a well-known licence text; None for an unknown text or one that holds several."""
    flat = " ".join(text.lower().split())
    found: dict[str, str] = {}
    for identifier, family, phrases in _TEXTS:
        if family not in found and all(phrase in flat for phrase in phrases):
            found[family] = identifier
    return next(iter(found.values())) if len(found) == 1 else None
