"""DAG-PB in the data model: the shared fixtures between all three codecs, and every form that is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpisa.primitives.cid import Cid
from mpisa.primitives.dag_json import decode_dag_json, encode_dag_json
from mpisa.primitives.dag_pb import MAX_NODE_LINKS
from mpisa.primitives.dag_pb_form import decode_dag_pb, encode_dag_pb
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import Link, Value, decode_dag_cbor, encode_dag_cbor
from tests.primitives.codec_vectors import FIXTURES, HOME, Fixture

NEGATIVE = HOME / "negative-fixtures" / "dag-pb"
WITH_DAG_PB = [fixture for fixture in FIXTURES if "dag-pb" in fixture.blocks]

names = st.text(max_size=10)
links = st.fixed_dictionaries(
    {"Hash": st.binary(max_size=8).map(lambda data: Link(Cid.of(data)))},
    optional={"Name": names, "Tsize": st.integers(0, (1 << 64) - 1)},
)
forms = st.fixed_dictionaries(
    {"Links": st.lists(links, max_size=5).map(lambda found: sorted(found, key=lambda x: x.get("Name", "").encode()))},
    optional={"Data": st.binary(max_size=20)},
)


def cases(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize("fixture", WITH_DAG_PB, ids=lambda fixture: fixture.name)
def test_the_fixtures_convert_between_all_codecs(fixture: Fixture) -> None:
    value = decode_dag_pb(fixture.blocks["dag-pb"])
    assert value == decode_dag_cbor(fixture.blocks["dag-cbor"]) == decode_dag_json(fixture.blocks["dag-json"])
    assert encode_dag_pb(value) == fixture.blocks["dag-pb"]
    assert encode_dag_cbor(value) == fixture.blocks["dag-cbor"]
    assert encode_dag_json(value) == fixture.blocks["dag-json"]


@pytest.mark.parametrize("case", cases(NEGATIVE / "decode" / "edges.json"), ids=lambda case: case["name"])
def test_the_blocks_to_refuse(case: dict[str, str]) -> None:
    with pytest.raises(Rejection):
        decode_dag_pb(bytes.fromhex(case["hex"]))


@pytest.mark.parametrize(
    "case",
    cases(NEGATIVE / "encode" / "invalid-forms.json") + cases(NEGATIVE / "encode" / "basic-datamodel-kinds.json"),
    ids=lambda case: case["name"],
)
def test_the_forms_to_refuse(case: dict[str, str]) -> None:
    value = decode_dag_json(json.dumps(case["dag-json"]).encode())
    with pytest.raises(Rejection):
        encode_dag_pb(value)


@given(forms)
def test_forms_come_back(form: dict[str, Value]) -> None:
    assert decode_dag_pb(encode_dag_pb(form)) == form


@given(st.binary(max_size=80))
def test_no_bytes_crash_the_decoder(block: bytes) -> None:
    try:
        decode_dag_pb(block)
    except Rejection:
        return


def test_forms_are_bounded() -> None:
    link: Value = {"Hash": Link(Cid.of(b""))}
    for form in ({"Links": [link] * (MAX_NODE_LINKS + 1)}, {"Links": [], "Data": bytes(2 * 1024 * 1024)}):
        with pytest.raises(Rejection) as caught:
            encode_dag_pb(form)
        assert caught.value.reason is RejectionReason.TOO_LARGE
