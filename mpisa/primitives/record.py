"""The provenance record: what an account claims about an artefact, and the form in which the state keeps it.

A record names its subject by CID, and its inputs by CID where they are known, else by what a hub calls them. It proves
who claimed what, and when; it doesn't prove that the claim is true. Formats only: who may publish what is the
ledger's rule.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from mpisa.primitives import codec
from mpisa.primitives.cid import MAX_CID_BYTES, Cid
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.spdx import validate_license

MAX_RECORD_BYTES: Final = 32_768
MAX_STORED_RECORD_BYTES: Final = MAX_RECORD_BYTES + 256
MAX_INPUTS: Final = 64
MAX_SIZE: Final = (1 << 63) - 1
MAX_U64: Final = (1 << 64) - 1
MAX_MEDIA_TYPE_LENGTH: Final = 127
MAX_REFERENCE_LENGTH: Final = 160
RECORD_VERSION: Final = 1

_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]*/[a-z0-9][a-z0-9!#$&^_.+-]*")
_TOKEN: Final = re.compile(r"[a-z][a-z0-9-]{0,31}")
_VISIBLE: Final = re.compile(r"[!-~]+")

_RECORD_KEYS: Final = ("v", "kind", "subject", "size", "media_type", "inputs", "license", "supersedes")
_INPUT_KEYS: Final = ("role", "relation", "cid", "external")
_EXTERNAL_KEYS: Final = ("hub", "repo", "revision")


class ArtefactKind(StrEnum):
    """What an artefact is."""

    MODEL = "model"
    DATASET = "dataset"
    CODE = "code"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True)
class ExternalReference:
    """An input that this chain knows by name only: it stays `unresolved` until somebody publishes its bytes."""

    hub: str
    repo: str
    revision: str | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {"hub": self.hub, "repo": self.repo, "revision": self.revision}


@dataclass(frozen=True, slots=True)
class Input:
    """One thing the subject was made from: exactly one of `cid` and `external` is given.

    `role` says what it was (base-model, dataset, code...), `relation` what was done (finetune, quantize, train...);
    both are lower-case words with hyphens, at most 32 characters.
    """

    role: str
    relation: str
    cid: Cid | None = None
    external: ExternalReference | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form; `resolved` is false for an input known by name only."""
        return {
            "role": self.role,
            "relation": self.relation,
            "cid": None if self.cid is None else str(self.cid),
            "external": None if self.external is None else self.external.to_json(),
            "resolved": self.cid is not None,
        }


@dataclass(frozen=True, slots=True)
class ProvenanceRecord:
    """A claim about the artefact `subject` of `size` bytes. `license` is an SPDX expression, None means unknown."""

    kind: ArtefactKind
    subject: Cid
    size: int
    media_type: str | None = None
    inputs: tuple[Input, ...] = ()
    license: str | None = None
    supersedes: Cid | None = None

    def validate(self) -> None:
        """Raise Rejection unless every field is within its bounds and the record doesn't refer to itself."""
        self.subject.require_supported()
        if not 0 <= self.size <= MAX_SIZE:
            raise _bad(f"size: expected 0 to {MAX_SIZE}, got {self.size}")
        if self.media_type is not None:
            _validate_media_type(self.media_type)
        if self.license is not None:
            validate_license(self.license)
        if self.supersedes == self.subject:
            raise _bad("supersedes: an artefact can't supersede itself")
        if len(self.inputs) > MAX_INPUTS:
            raise _bad(f"inputs: expected at most {MAX_INPUTS}, got {len(self.inputs)}")
        seen: dict[Input, int] = {}
        for position, item in enumerate(self.inputs):
            validate_input(item, self.subject, f"inputs[{position}]")
            if item in seen:
                raise _bad(f"inputs[{position}]: the same as inputs[{seen[item]}]")
            seen[item] = position

    def to_value(self) -> dict[str, codec.Value]:
        """The record as a codec value, to be nested in a transaction or a stored record."""
        return {
            "v": RECORD_VERSION,
            "kind": self.kind.value,
            "subject": self.subject.to_bytes(),
            "size": self.size,
            "media_type": self.media_type,
            "inputs": tuple(_input_value(item) for item in self.inputs),
            "license": self.license,
            "supersedes": None if self.supersedes is None else self.supersedes.to_bytes(),
        }

    @classmethod
    def from_value(cls, value: codec.Value) -> ProvenanceRecord:
        """Read and validate a record; raises Rejection."""
        fields = codec.expect_map(value, "record", keys=_RECORD_KEYS)
        version = codec.expect_int(fields["v"], "record.v", 0, MAX_SIZE)
        if version != RECORD_VERSION:
            raise _bad(f"v: expected {RECORD_VERSION}, got {version}")
        kind = codec.expect_str(fields["kind"], "record.kind", 32)
        try:
            artefact_kind = ArtefactKind(kind)
        except ValueError:
            known = ", ".join(item.value for item in ArtefactKind)
            raise _bad(f"kind: expected one of {known}, got {kind!r}") from None
        record = cls(
            kind=artefact_kind,
            subject=read_cid(fields["subject"], "record.subject"),
            size=codec.expect_int(fields["size"], "record.size", 0, MAX_SIZE),
            media_type=_optional_str(fields["media_type"], "record.media_type", MAX_MEDIA_TYPE_LENGTH),
            inputs=tuple(
                _read_input(item, f"record.inputs[{position}]")
                for position, item in enumerate(codec.expect_tuple(fields["inputs"], "record.inputs", MAX_INPUTS))
            ),
            license=_optional_str(fields["license"], "record.license", 200),
            supersedes=read_optional_cid(fields["supersedes"], "record.supersedes"),
        )
        record.validate()
        return record

    def encode(self) -> bytes:
        """The canonical bytes."""
        return codec.encode(self.to_value())

    @classmethod
    def decode(cls, data: bytes) -> ProvenanceRecord:
        """The inverse of encode; raises Rejection."""
        return cls.from_value(codec.decode(data, max_bytes=MAX_RECORD_BYTES))

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form."""
        return {
            "kind": self.kind.value,
            "subject": str(self.subject),
            "size": self.size,
            "media_type": self.media_type,
            "inputs": [item.to_json() for item in self.inputs],
            "license": self.license,
            "supersedes": None if self.supersedes is None else str(self.supersedes),
        }


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """A record as the state keeps it: who published it, in which chain block, by which transaction.

    `height`, `time_ms` and `tx_hash` are those of the latest publication; `first_time_ms` is the block time of this
    publisher's first claim about this subject.
    """

    record: ProvenanceRecord
    publisher: Address
    height: int
    time_ms: int
    tx_hash: bytes
    first_time_ms: int

    def encode(self) -> bytes:
        """The state value under record_key(subject, publisher)."""
        return codec.encode(
            (self.record.to_value(), self.publisher, self.height, self.time_ms, self.tx_hash, self.first_time_ms)
        )

    @classmethod
    def decode(cls, data: bytes) -> StoredRecord:
        """The inverse of encode; raises Rejection."""
        fields = codec.expect_tuple(codec.decode(data, max_bytes=MAX_STORED_RECORD_BYTES), "stored record", length=6)
        return cls(
            record=ProvenanceRecord.from_value(fields[0]),
            publisher=Address(codec.expect_bytes(fields[1], "stored record.publisher", length=20)),
            height=codec.expect_int(fields[2], "stored record.height", 0, MAX_U64),
            time_ms=codec.expect_int(fields[3], "stored record.time_ms", 0, MAX_U64),
            tx_hash=codec.expect_bytes(fields[4], "stored record.tx_hash", length=32),
            first_time_ms=codec.expect_int(fields[5], "stored record.first_time_ms", 0, MAX_U64),
        )

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready form: the record's fields and those of its publication."""
        return {
            **self.record.to_json(),
            "publisher": format_address(self.publisher),
            "height": self.height,
            "time_ms": self.time_ms,
            "tx": self.tx_hash.hex(),
            "first_time_ms": self.first_time_ms,
        }


def read_cid(value: codec.Value, name: str) -> Cid:
    """Read a CID from its bytes; raises Rejection."""
    raw = codec.expect_bytes(value, name, max_length=MAX_CID_BYTES)
    try:
        return Cid.from_bytes(raw)
    except Rejection as rejection:
        raise Rejection(rejection.reason, f"{name}: {rejection.detail}") from None


def read_optional_cid(value: codec.Value, name: str) -> Cid | None:
    """Read a CID or None; raises Rejection."""
    return None if value is None else read_cid(value, name)


def _optional_str(value: codec.Value, name: str, max_length: int) -> str | None:
    return None if value is None else codec.expect_str(value, name, max_length)


def _validate_media_type(text: str) -> None:
    if len(text) > MAX_MEDIA_TYPE_LENGTH or not _MEDIA_TYPE.fullmatch(text):
        raise _bad(f"media_type: expected lower-case type/subtype, got {text[:40]!r}")


def validate_input(item: Input, subject: Cid | None, name: str) -> None:
    """Raise Rejection(BAD_RECORD) unless the input, as part of a record about `subject`, is well formed."""
    for field, text in (("role", item.role), ("relation", item.relation)):
        if not _TOKEN.fullmatch(text):
            raise _bad(f"{name}.{field}: expected a lower-case word of at most 32 characters, got {text[:40]!r}")
    if (item.cid is None) == (item.external is None):
        raise _bad(f"{name}: expected exactly one of cid and external")
    if item.cid is not None and item.cid == subject:
        raise _bad(f"{name}: an artefact can't be its own input")
    if item.external is not None:
        _validate_external(item.external, f"{name}.external")


def _validate_external(reference: ExternalReference, name: str) -> None:
    if not _TOKEN.fullmatch(reference.hub):
        raise _bad(f"{name}.hub: expected a lower-case word of at most 32 characters, got {reference.hub[:40]!r}")
    for field, text in (("repo", reference.repo), ("revision", reference.revision)):
        if text is not None and (len(text) > MAX_REFERENCE_LENGTH or not _VISIBLE.fullmatch(text)):
            raise _bad(f"{name}.{field}: expected 1 to {MAX_REFERENCE_LENGTH} visible ASCII characters")


def _input_value(item: Input) -> dict[str, codec.Value]:
    external: codec.Value = None
    if item.external is not None:
        external = {"hub": item.external.hub, "repo": item.external.repo, "revision": item.external.revision}
    return {
        "role": item.role,
        "relation": item.relation,
        "cid": None if item.cid is None else item.cid.to_bytes(),
        "external": external,
    }


def _read_input(value: codec.Value, name: str) -> Input:
    fields = codec.expect_map(value, name, keys=_INPUT_KEYS)
    external = None
    if fields["external"] is not None:
        reference = codec.expect_map(fields["external"], f"{name}.external", keys=_EXTERNAL_KEYS)
        external = ExternalReference(
            hub=codec.expect_str(reference["hub"], f"{name}.external.hub", 32),
            repo=codec.expect_str(reference["repo"], f"{name}.external.repo", MAX_REFERENCE_LENGTH),
            revision=_optional_str(reference["revision"], f"{name}.external.revision", MAX_REFERENCE_LENGTH),
        )
    return Input(
        role=codec.expect_str(fields["role"], f"{name}.role", 32),
        relation=codec.expect_str(fields["relation"], f"{name}.relation", 32),
        cid=read_optional_cid(fields["cid"], f"{name}.cid"),
        external=external,
    )


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_RECORD, f"record: {detail}")
