"""What form of content a request asks for: by `?format=`, which wins, or by the Accept header."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from mpisa.primitives.errors import UsageError

MAX_ACCEPT_ITEMS: Final = 64
HTML: Final = "text/html"


class Form(StrEnum):
    """The words of `?format=`, and CONTENT for whatever lies there: a file, a listing, a document."""

    CONTENT = "content"
    RAW = "raw"
    CAR = "car"
    TAR = "tar"
    JSON = "json"
    CBOR = "cbor"
    DAG_JSON = "dag-json"
    DAG_CBOR = "dag-cbor"
    RECORD = "ipns-record"


TYPES: Final = {
    Form.RAW: "application/vnd.ipld.raw",
    Form.CAR: "application/vnd.ipld.car",
    Form.TAR: "application/x-tar",
    Form.JSON: "application/json",
    Form.CBOR: "application/cbor",
    Form.DAG_JSON: "application/vnd.ipld.dag-json",
    Form.DAG_CBOR: "application/vnd.ipld.dag-cbor",
    Form.RECORD: "application/vnd.ipfs.ipns-record",
}
FORMS: Final = {kind: form for form, kind in TYPES.items()}
TRUSTLESS: Final = (Form.RAW, Form.CAR, Form.RECORD)
"""Forms that a receiver can verify by itself."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A form; `page`: the Accept header names HTML; `parameters`: those of the form in the Accept header."""

    form: Form
    page: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Item:
    kind: str
    weight: float
    parameters: Mapping[str, str]


def negotiate(asked: str | None, accept: str) -> Wanted:
    """The form for `?format=` (None: not there) and an Accept header. Raises UsageError for a word that is none."""
    items = _read_accept(accept)
    if asked is not None:
        if asked not in TYPES:
            raise UsageError(f"format: expected {', '.join(TYPES)}, got {asked[:40]!r}")
        form = Form(asked)
        parameters = next((item.parameters for item in items if item.kind == TYPES[form]), {})
        return Wanted(form, False, parameters)
    known = [item for item in items if item.weight > 0 and (item.kind in FORMS or item.kind == HTML)]
    best = max(known, key=lambda item: item.weight, default=None)
    if best is None or best.kind == HTML:
        return Wanted(Form.CONTENT, best is not None)
    return Wanted(FORMS[best.kind], False, best.parameters)


def _read_accept(text: str) -> list[_Item]:
    """Media types in their order; what isn't one is passed over, as HTTP wants."""
    items = []
    for part in text.split(",")[:MAX_ACCEPT_ITEMS]:
        kind, *rest = part.split(";")
        parameters = {}
        for pair in rest:
            name, separator, value = pair.partition("=")
            if separator:
                parameters[name.strip().lower()] = value.strip().strip('"')
        items.append(_Item(kind.strip().lower(), _weight(parameters.pop("q", "1")), parameters))
    return items


def _weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0 <= weight <= 1 else 0.0
