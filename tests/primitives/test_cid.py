"""CIDs against fixed values of other implementations, and every misshapen one refused."""

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from mpisa.primitives.cid import DAG_PB, IDENTITY, RAW, SHA2_256, Cid, encode_varint, read_varint
from mpisa.primitives.errors import Rejection, RejectionReason

EMPTY_RAW = "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"
EMPTY_DIRECTORY_V0 = "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
EMPTY_DIRECTORY_V1 = "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def test_the_cid_of_bytes() -> None:
    assert str(Cid.of(b"")) == EMPTY_RAW
    assert str(Cid.of(b"\x0a\x02\x08\x01", codec=DAG_PB)) == EMPTY_DIRECTORY_V1
    assert str(Cid.of(b"\x0a\x02\x08\x01", codec=DAG_PB, version=0)) == EMPTY_DIRECTORY_V0
    assert Cid.of(b"").matches(b"")
    assert not Cid.of(b"").matches(b"x")


def test_only_dag_pb_has_a_version_0() -> None:
    with pytest.raises(ValueError, match="no CID of version 0 with codec 0x55"):
        Cid.of(b"", version=0)
    with pytest.raises(ValueError, match="no CID of version 2 with codec 0x70"):
        Cid.of(b"", codec=DAG_PB, version=2)


def test_versions_share_the_multihash_and_are_not_equal() -> None:
    v0, v1 = Cid.parse(EMPTY_DIRECTORY_V0), Cid.parse(EMPTY_DIRECTORY_V1)
    assert (v0.version, v0.codec, v1.version, v1.codec) == (0, DAG_PB, 1, DAG_PB)
    assert v0.multihash == v1.multihash
    assert v0 != v1
    assert len({v0, v1, Cid.parse(EMPTY_DIRECTORY_V0)}) == 2


@pytest.mark.parametrize(
    "text",
    [
        EMPTY_RAW,
        EMPTY_RAW.upper(),
        "f01551220e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "F01551220E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        "zb2rhmy65F3REf8SZp7De11gxtECBGgUKaLdiDj7MCGCHxbDW",
    ],
)
def test_one_cid_in_many_multibases(text: str) -> None:
    assert Cid.parse(text) == Cid.of(b"")
    assert str(Cid.parse(text)) == EMPTY_RAW


@settings(deadline=None, max_examples=200)
@given(st.integers(0, (1 << 63) - 1), st.sampled_from((SHA2_256, IDENTITY, 0x13, 0xB220)), st.binary(max_size=128))
def test_text_and_bytes_round_trip(codec: int, code: int, digest: bytes) -> None:
    cid = Cid(1, codec, code, digest.ljust(32, b"\0")[:32] if code == SHA2_256 else digest)
    assert Cid.from_bytes(cid.to_bytes()) == cid
    assert Cid.parse(str(cid)) == cid
    assert cid.to_bytes().endswith(cid.multihash)


@pytest.mark.parametrize("code", [IDENTITY, 0x13])
@pytest.mark.parametrize("size", [0, 64, 65, 128])
def test_every_digest_that_parses_has_a_text(code: int, size: int) -> None:
    cid = Cid.from_bytes(Cid(1, RAW, code, bytes(size)).to_bytes())
    assert Cid.parse(str(cid)) == cid


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=80) | st.from_regex(r"[bzfQukmM][a-zA-Z0-9]{0,100}", fullmatch=True))
def test_any_text_is_a_cid_or_rejected(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except Rejection as rejection:
        event(rejection.reason.value)
        return
    assert Cid.parse(str(cid)) == cid


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=170) | st.binary(max_size=80).map(lambda tail: b"\x01\x55\x12\x20" + tail))
def test_any_bytes_are_a_cid_of_this_one_form_or_rejected(raw: bytes) -> None:
    try:
        cid = Cid.from_bytes(raw)
    except Rejection as rejection:
        event(rejection.reason.value)
        return
    assert cid.to_bytes() == raw


DIGEST = bytes(32)


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b"", "truncated: a number at byte 0 has no end"),
        (b"\x12\x20" + bytes(31), "version 0: expected 34 bytes, got 33"),
        (b"\x12\x20" + bytes(33), "version 0: expected 34 bytes, got 35"),
        (b"\x00\x55\x12\x20" + DIGEST, "expected version 1, got 0"),
        (b"\x02\x55\x12\x20" + DIGEST, "expected version 1, got 2"),
        (b"\x81\x00\x55\x12\x20" + DIGEST, "a number at byte 0 isn't of shortest form"),
        (b"\x01\xd5\x00\x12\x20" + DIGEST, "a number at byte 1 isn't of shortest form"),
        (b"\x01\x55\x12\x20" + DIGEST + b"\x00", "expected a digest of 32 bytes, got 33"),
        (b"\x01\x55\x12\x20" + DIGEST[1:], "expected a digest of 32 bytes, got 31"),
        (b"\x01\x55\x12\x1f" + DIGEST[1:], "sha2-256: expected a digest of 32 bytes, got 31"),
        (b"\x01\x55\x12", "truncated: a number at byte 3 has no end"),
        (b"\x01" + b"\xff" * 9 + b"\x01", "a number at byte 1 is longer than 63 bits"),
        (b"\x01\x55\x00\x81\x01" + bytes(129), "expected a digest of at most 128 bytes, got 129"),
        (bytes(161), "expected at most 160 bytes, got 161"),
    ],
)
def test_misshapen_bytes_are_refused(raw: bytes, detail: str) -> None:
    with pytest.raises(Rejection) as refused:
        Cid.from_bytes(raw)
    assert str(refused.value) == f"bad-cid: {detail}"


def test_misshapen_text_is_refused() -> None:
    for text in (
        "",
        "b",
        "Qm",
        "z" + EMPTY_DIRECTORY_V0,
        EMPTY_DIRECTORY_V0[:-1],
        EMPTY_RAW[:-1],
        EMPTY_RAW + "a",
        "b" * 513,
    ):
        with pytest.raises(Rejection) as refused:
            Cid.parse(text)
        assert refused.value.reason is RejectionReason.BAD_CID


def test_identity_holds_its_content_up_to_the_bound() -> None:
    content = bytes(range(128))
    cid = Cid.from_bytes(b"\x01\x55\x00\x80\x01" + content)
    assert cid.matches(content)
    assert not cid.matches(content[:-1])
    assert str(Cid.parse("bafkqaaa")) == "bafkqaaa"
    assert Cid.parse("bafkqaaa").matches(b"")


def test_a_hash_that_is_not_checked_here_can_be_shown_but_proves_nothing() -> None:
    cid = Cid(1, RAW, 0x13, bytes(64))
    assert Cid.parse(str(cid)) == cid
    for use in (lambda: cid.matches(b""), cid.require_supported):
        with pytest.raises(Rejection) as refused:
            use()
        assert str(refused.value) == f"unsupported-hash: {cid}: expected sha2-256 or identity, got multihash code 0x13"
    assert Cid.of(b"").require_supported() == Cid.of(b"")


@pytest.mark.parametrize(
    ("value", "raw"), [(0, b"\0"), (127, b"\x7f"), (128, b"\x80\x01"), ((1 << 63) - 1, b"\xff" * 8 + b"\x7f")]
)
def test_varints(value: int, raw: bytes) -> None:
    assert encode_varint(value) == raw
    assert read_varint(b"x" + raw + b"y", 1) == (value, 1 + len(raw))


def test_varints_are_bounded() -> None:
    for value in (-1, 1 << 63):
        with pytest.raises(ValueError, match="no varint of 63 bits"):
            encode_varint(value)
