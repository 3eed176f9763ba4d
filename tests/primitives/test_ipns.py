"""IPNS: the published records, names in all their forms, and every field that could be turned around."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from mpisa.primitives.cid import RAW, Cid
from mpisa.primitives.dag_pb import encode_varint
from mpisa.primitives.ed25519 import public_key, signer
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import Value, encode_dag_cbor
from mpisa.primitives.ipns import (
    LIBP2P_KEY,
    MAX_RECORD_BYTES,
    decode_record,
    name_text,
    parse_name,
    verify_record,
)

HOME = Path(__file__).parents[1] / "vectors" / "gateway" / "fixtures"
RECORDS = {path.name.removesuffix(".ipns-record"): path for path in sorted(HOME.rglob("*.ipns-record"))}
NOW = 1_700_000_000_000
SEED = bytes(range(32))
NAME = Cid(1, LIBP2P_KEY, 0, bytes.fromhex("08011220") + public_key(SEED))
VALUE = "/ipfs/bafkqaddwggevxmmraojswg33smq"
UNTIL = "2123-08-14T12:17:03.694052Z"


def field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value)
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def signed(changes: dict[str, Value] | None = None) -> bytes:
    data: dict[str, Value] = {
        "Value": VALUE.encode(), "Validity": UNTIL.encode(), "ValidityType": 0, "Sequence": 3, "TTL": 1_800_000_000_000,
    }  # fmt: skip
    data.update(changes or {})
    block = encode_dag_cbor({key: value for key, value in data.items() if value is not None})
    return field(8, signer(SEED)(b"ipns-signature:" + block)) + field(9, block)


def older(value: str = VALUE, sequence: int = 3) -> bytes:
    return (
        field(1, value.encode()) + field(2, b"anything") + field(3, 0) + field(4, UNTIL.encode()) + field(5, sequence)
        + field(6, 1_800_000_000_000)
    )  # fmt: skip


def check(raw: bytes, now_ms: int = NOW, name: Cid = NAME) -> None:
    verify_record(name, decode_record(raw), now_ms)


@pytest.mark.parametrize("stem", RECORDS)
def test_the_published_records(stem: str) -> None:
    text, _, kind = stem.partition("_")
    name = parse_name(text)
    assert parse_name(name_text(name)) == name
    raw = RECORDS[stem].read_bytes()
    if kind in ("v1", "v1-v2-broken-v1-value"):
        with pytest.raises(Rejection) as caught:
            decode_record(raw)
        assert caught.value.reason is RejectionReason.BAD_RECORD
    elif kind == "v1-v2-broken-signature-v2":
        with pytest.raises(Rejection) as caught:
            check(raw, name=name)
        assert caught.value.reason is RejectionReason.BAD_SIGNATURE
    else:
        check(raw, name=name)
        record = decode_record(raw)
        assert record.value.startswith("/ipfs/")
        assert record.raw == raw
        assert record.ttl_ns > 0


def test_there_are_as_many_records_as_were_published() -> None:
    assert len(RECORDS) >= 10


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("12D3KooWRBy97UB99e3J6hiPesre1MZeuNQvfan4gBziswrRJsNK",
         "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8"),
        ("QmcJM7PRfkSbcM5cf1QugM5R37TLRKyJGgBEhXjLTB8uA2", "k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger"),
        ("k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger",
         "k2k4r8ol4m8kkcqz509c1rcjwunebj02gcnm5excpx842u736nja8ger"),
        (str(NAME), name_text(NAME)),
    ],
)  # fmt: skip
def test_names_have_one_canonical_text(text: str, canonical: str) -> None:
    assert name_text(parse_name(text)) == canonical
    assert parse_name(canonical) == parse_name(text)


@pytest.mark.parametrize(
    "text",
    ["", "1", "12D3Koo", "Qm", "k", "en.wikipedia-on-ipfs.org", str(Cid.of(b"x", codec=RAW)), "x" * 300, "1" * 200],
)
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(Rejection) as caught:
        parse_name(text)
    assert caught.value.reason is RejectionReason.BAD_CID


def test_a_record_with_and_without_older_fields() -> None:
    for raw in (signed(), older() + signed(), field(7, NAME.digest) + signed(), signed() + field(12, b"later")):
        check(raw)
        record = decode_record(raw)
        assert (record.value, record.validity, record.sequence, record.ttl_ns) == (VALUE, UNTIL, 3, 1_800_000_000_000)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", RejectionReason.BAD_RECORD),
        (older(), RejectionReason.BAD_RECORD),
        (older(value="/ipfs/other") + signed(), RejectionReason.BAD_RECORD),
        (older(sequence=4) + signed(), RejectionReason.BAD_RECORD),
        (field(2, b"old") + signed(), RejectionReason.BAD_RECORD),
        (signed() + signed(), RejectionReason.BAD_RECORD),
        (signed({"Value": "text"}), RejectionReason.BAD_RECORD),
        (signed({"Validity": b"soon"}), RejectionReason.BAD_RECORD),
        (signed({"ValidityType": 1}), RejectionReason.BAD_RECORD),
        (signed({"Sequence": -1}), RejectionReason.BAD_RECORD),
        (signed({"Sequence": None}), RejectionReason.BAD_RECORD),
        (signed({"TTL": True}), RejectionReason.BAD_RECORD),
        (signed({"Value": b"\xff"}), RejectionReason.BAD_RECORD),
        (field(8, b"x") + field(9, b"\xff"), RejectionReason.BAD_RECORD),
        (field(9, encode_dag_cbor([])) + field(8, b"x"), RejectionReason.BAD_RECORD),
        (signed() + bytes(MAX_RECORD_BYTES), RejectionReason.TOO_LARGE),
        (field(7, b"another key") + signed(), RejectionReason.KEY_MISMATCH),
        (signed({"Validity": b"2020-01-01T00:00:00Z"}), RejectionReason.EXPIRED),
    ],
)  # fmt: skip
def test_records_that_are_refused(raw: bytes, reason: RejectionReason) -> None:
    with pytest.raises(Rejection) as caught:
        check(raw)
    assert caught.value.reason is reason


def test_a_record_of_another_name_is_refused() -> None:
    other = Cid(1, LIBP2P_KEY, 0, bytes.fromhex("08011220") + public_key(bytes(32)))
    with pytest.raises(Rejection) as caught:
        check(signed(), name=other)
    assert caught.value.reason is RejectionReason.BAD_SIGNATURE
    hashed = Cid.of(NAME.digest, codec=LIBP2P_KEY)
    check(field(7, NAME.digest) + signed(), name=hashed)
    with pytest.raises(Rejection) as caught:
        check(signed(), name=hashed)
    assert caught.value.reason is RejectionReason.KEY_MISMATCH
    with pytest.raises(Rejection) as caught:
        check(field(7, b"some key") + signed(), name=Cid.of(b"some key", codec=LIBP2P_KEY))
    assert caught.value.reason is RejectionReason.UNSUPPORTED


@pytest.mark.parametrize(("bits", "valid"), [(2048, True), (1024, False)])
def test_rsa_keys(bits: int, valid: bool) -> None:
    private = generate_private_key(65537, bits)
    der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = bytes.fromhex("080012") + encode_varint(len(der)) + der
    name = Cid.of(key, codec=LIBP2P_KEY)
    data = decode_record(signed()).data
    signature = private.sign(b"ipns-signature:" + data, PKCS1v15(), SHA256())
    record = field(7, key) + field(8, signature) + field(9, data)
    if valid:
        check(record, name=name)
    damaged = bytearray(record)
    damaged[len(field(7, key)) + 10] ^= 1
    for raw in [bytes(damaged)] if valid else [record]:
        with pytest.raises(Rejection) as caught:
            check(raw, name=name)
        assert caught.value.reason is RejectionReason.BAD_SIGNATURE


@pytest.mark.parametrize("key", ["080012", "08001200", "080012020102", "0800120201020304"])
def test_rsa_keys_that_are_none(key: str) -> None:
    raw = bytes.fromhex(key)
    with pytest.raises(Rejection):
        check(field(7, raw) + signed(), name=Cid.of(raw, codec=LIBP2P_KEY))


@given(st.data())
def test_no_changed_byte_verifies(data: st.DataObject) -> None:
    raw = bytearray(older() + signed())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        check(bytes(raw))
    except Rejection:
        return
    # Only the older signature isn't looked at, nor what has a number that nobody knows.
    assert decode_record(bytes(raw)).data == decode_record(older() + signed()).data


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_decoder(raw: bytes) -> None:
    try:
        decode_record(raw)
    except Rejection:
        return


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_times_are_those_of_the_calendar(moment: datetime, minutes: int) -> None:
    raw = signed({"Validity": f"{moment.isoformat()}Z".encode()})
    expected = (moment.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    assert decode_record(raw).expires_ms == expected
    sign, size = ("-", -minutes) if minutes < 0 else ("+", minutes)
    shifted = signed({"Validity": f"{moment.isoformat()}{sign}{size // 60:02}:{size % 60:02}".encode()})
    assert decode_record(shifted).expires_ms == expected - minutes * 60_000


@pytest.mark.parametrize("text", ["2023-02-29T00:00:00Z", "2023-13-01T00:00:00Z", "2023-01-01T24:00:00Z", "2023-01-01"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(Rejection):
        decode_record(signed({"Validity": text.encode()}))


def test_which_of_two_records_counts() -> None:
    first, second = decode_record(signed()), decode_record(signed({"Sequence": 4}))
    later = decode_record(signed({"Validity": b"2124-01-01T00:00:00Z"}))
    assert second.supersedes(first)
    assert not first.supersedes(second)
    assert later.supersedes(first)
    assert not first.supersedes(first)
