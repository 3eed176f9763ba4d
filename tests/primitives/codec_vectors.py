"""The fixtures of ipld/codec-fixtures: the same values in DAG-CBOR, DAG-JSON and DAG-PB, each with its CID.

`fixtures.json` holds the published files (name of the value, codec, CID from the file's name, bytes in base64).
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

from mpisa.primitives.cid import Cid

HOME = Path(__file__).parents[1] / "vectors" / "codecs"


@dataclass(frozen=True)
class Fixture:
    """One value: its blocks by codec name, and their CIDs."""

    name: str
    blocks: dict[str, bytes]
    cids: dict[str, Cid]


def load() -> list[Fixture]:
    """All fixtures, by name."""
    found = []
    for name, codecs in json.loads((HOME / "fixtures.json").read_text()).items():
        blocks = {codec: base64.b64decode(entry["base64"]) for codec, entry in codecs.items()}
        found.append(Fixture(name, blocks, {codec: Cid.parse(entry["cid"]) for codec, entry in codecs.items()}))
    return found


FIXTURES = load()
