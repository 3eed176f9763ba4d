"""The record format: bounds, self-references and licence expressions, each with its whole message."""

import pytest

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection
from mpisa.primitives.record import (
    MAX_INPUTS,
    MAX_RECORD_BYTES,
    ArtefactKind,
    ExternalReference,
    Input,
    ProvenanceRecord,
)
from mpisa.primitives.spdx import validate_license

SUBJECT = Cid.of(b"subject")
SHA3 = Cid(1, 0x55, 0x16, bytes(32))
OTHER = Cid.of(b"other")
WORD = "expected a lower-case word of at most 32 characters"
VISIBLE = "expected 1 to 160 visible ASCII characters"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": -1}, "bad-record: record: size: expected 0 to 9223372036854775807, got -1"),
        ({"size": 1 << 63}, "bad-record: record: size: expected 0 to 9223372036854775807, got 9223372036854775808"),
        (
            {"media_type": "Text/Plain"},
            "bad-record: record: media_type: expected lower-case type/subtype, got 'Text/Plain'",
        ),
        ({"license": ""}, "bad-license: licence: expected 1 to 200 characters, got 0"),
        ({"supersedes": SUBJECT}, "bad-record: record: supersedes: an artefact can't supersede itself"),
        (
            {"subject": SHA3},
            f"unsupported-hash: {SHA3}: expected sha2-256 or identity, got multihash code 0x16",
        ),
        (
            {"inputs": tuple(Input("dataset", "train", cid=Cid.of(bytes((i,)))) for i in range(MAX_INPUTS + 1))},
            "bad-record: record: inputs: expected at most 64, got 65",
        ),
        (
            {"inputs": (Input("dataset", "train", cid=OTHER),) * 2},
            "bad-record: record: inputs[1]: the same as inputs[0]",
        ),
        (
            {"inputs": (Input("dataset", "train", cid=SUBJECT),)},
            "bad-record: record: inputs[0]: an artefact can't be its own input",
        ),
        (
            {"inputs": (Input("dataset", "train"),)},
            "bad-record: record: inputs[0]: expected exactly one of cid and external",
        ),
        (
            {"inputs": (Input("dataset", "train", OTHER, ExternalReference("h", "r")),)},
            "bad-record: record: inputs[0]: expected exactly one of cid and external",
        ),
        (
            {"inputs": (Input("Data set", "train", cid=OTHER),)},
            f"bad-record: record: inputs[0].role: {WORD}, got 'Data set'",
        ),
        (
            {"inputs": (Input("dataset", "x" * 33, cid=OTHER),)},
            f"bad-record: record: inputs[0].relation: {WORD}, got '{'x' * 33}'",
        ),
        (
            {"inputs": (Input("dataset", "train", external=ExternalReference("HF", "r")),)},
            f"bad-record: record: inputs[0].external.hub: {WORD}, got 'HF'",
        ),
        (
            {"inputs": (Input("dataset", "train", external=ExternalReference("hf", "a b")),)},
            f"bad-record: record: inputs[0].external.repo: {VISIBLE}",
        ),
        (
            {"inputs": (Input("dataset", "train", external=ExternalReference("hf", "r", "")),)},
            f"bad-record: record: inputs[0].external.revision: {VISIBLE}",
        ),
    ],
)
def test_a_record_out_of_bounds_is_refused(make_record, changes, message):
    with pytest.raises(Rejection) as refusal:
        make_record("x", **({"subject": SUBJECT} | changes)).validate()
    assert str(refusal.value) == message


def test_the_largest_record_comes_back_from_its_bytes():
    inputs = tuple(
        Input("r" * 32, "q" * 32, external=ExternalReference("h" * 32, f"{i:0160}", "v" * 160))
        for i in range(MAX_INPUTS)
    )
    record = ProvenanceRecord(
        ArtefactKind.EVALUATION, SUBJECT, 0, "a/" + "b" * 125, inputs, "LicenseRef-" + "x" * 189, OTHER
    )
    assert len(record.encode()) <= MAX_RECORD_BYTES
    assert ProvenanceRecord.decode(record.encode()) == record


@pytest.mark.parametrize(
    "text",
    [
        "MIT",
        "Apache-2.0",
        "GPL-2.0+",
        "LicenseRef-llama3.1",
        "DocumentRef-spdx:LicenseRef-x",
        "MIT OR Apache-2.0",
        "(MIT)",
        "MIT AND (Apache-2.0 OR BSD-3-Clause)",
        "GPL-2.0-only WITH Classpath-exception-2.0",
        "GPL-2.0-only WITH Classpath-exception-2.0 OR MIT",
        "((((((((MIT))))))))",
        "x" * 200,
    ],
)
def test_licence_expressions(text):
    validate_license(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x" * 201, "expected 1 to 200 characters, got 201"),
        (" MIT", "expected single spaces, none at the ends"),
        ("MIT  OR X", "expected single spaces, none at the ends"),
        ("MIT\nOR X", "expected letters, digits, '.', '-', '+', ':' and parentheses only"),
        ("MIT; rm", "expected letters, digits, '.', '-', '+', ':' and parentheses only"),
        ("MIT Apache-2.0", "expected AND, OR or WITH, got 'Apache-2.0'"),
        ("MIT and X", "expected AND, OR or WITH, got 'and'"),
        ("AND", "expected a licence identifier, got 'AND'"),
        ("MIT OR", "ends where a licence identifier is expected"),
        ("(MIT", "a '(' without its ')'"),
        ("MIT)", "a ')' without its '('"),
        ("()", "expected a licence identifier, got ')'"),
        ("(MIT) WITH X", "WITH must follow a licence identifier"),
        ("MIT WITH X WITH Y", "WITH must follow a licence identifier"),
        ("MIT WITH (X)", "expected a licence identifier, got '('"),
        ("-MIT", "expected a licence identifier, got '-MIT'"),
        ("a:b", "expected a licence identifier, got 'a:b'"),
        ("(" * 9 + "MIT" + ")" * 9, "parentheses nest deeper than 8"),
    ],
)
def test_what_is_no_licence_expression(text, message):
    with pytest.raises(Rejection) as refusal:
        validate_license(text)
    assert str(refusal.value) == f"bad-license: licence: {message}"
