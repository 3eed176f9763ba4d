"""Addresses, artefact names and chain ids: what is accepted, and what each refusal says."""

import pytest

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import (
    ArtefactName,
    checksum_address,
    format_address,
    keccak256,
    parse_address,
    validate_address,
    validate_chain_id,
)

# From EIP-55.
CHECKSUMMED = [
    "0x52908400098527886E0F7030069857D2E4169EE7",
    "0xde709f2102306220921060314715629080e2fb77",
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
    "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
]


def test_keccak_is_ethereums() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


@pytest.mark.parametrize("text", CHECKSUMMED)
def test_checksummed_addresses_are_read_and_written(text: str) -> None:
    address = parse_address(text)
    assert checksum_address(address) == text
    assert format_address(address) == text.lower()
    assert parse_address(text.lower()) == address


def test_an_address_in_upper_case_alone_has_no_checksum() -> None:
    assert parse_address("0x" + "AB" * 20) == bytes.fromhex("ab" * 20)


def test_a_mistyped_checksummed_address_is_refused() -> None:
    with pytest.raises(Rejection) as refused:
        parse_address("0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD")
    assert str(refused.value) == (
        "bad-address: the mixed case of 0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAeD doesn't match its EIP-55 checksum; "
        "without one, write lower case"
    )


@pytest.mark.parametrize(
    "text", ["", "0x", "ab" * 20, "0x" + "a" * 39, "0x" + "a" * 41, "0x" + "g" * 40, "0X" + "a" * 40]
)
def test_other_text_is_no_address(text: str) -> None:
    with pytest.raises(Rejection) as refused:
        parse_address(text)
    assert str(refused.value) == f"bad-address: expected 0x and 40 hex digits, got {text!r}"


def test_a_trailing_newline_is_no_part_of_an_address() -> None:
    with pytest.raises(Rejection, match="expected 0x and 40 hex digits"):
        parse_address("0x" + "a" * 40 + "\n")


def test_an_address_has_20_bytes() -> None:
    assert validate_address(bytes(20)) == bytes(20)
    with pytest.raises(Rejection, match="bad-address: expected 20 bytes, got 19"):
        validate_address(bytes(19))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("alice/llama", ArtefactName("alice", "llama", "latest")),
        ("alice/llama@v1.0", ArtefactName("alice", "llama", "v1.0")),
        ("a/b@c", ArtefactName("a", "b", "c")),
        ("0x-lab/tiny_model-2.5@2024-01-01", ArtefactName("0x-lab", "tiny_model-2.5", "2024-01-01")),
    ],
)
def test_artefact_names_are_read_and_written(text: str, name: ArtefactName) -> None:
    assert ArtefactName.parse(text) == name
    assert ArtefactName.parse(str(name)) == name


@pytest.mark.parametrize(
    "text",
    [
        *("", "alice", "alice@v1", "/llama", "alice/", "alice/llama@", "alice/a/b", "alice/llama@v1@v2", "Alice/llama"),
        *("alice/../x", "alice/..", "alice/a--b", "alice/-a", "alice/a.", "alice/a b", "alice/l\u0131ama", "alice/x\n"),
        *("a" * 40 + "/m", "o/" + "m" * 97, "o/m@" + "t" * 65),
    ],
)
def test_other_text_is_no_artefact_name(text: str) -> None:
    with pytest.raises(Rejection) as refused:
        ArtefactName.parse(text)
    assert refused.value.reason is RejectionReason.BAD_NAME


def test_the_longest_names_are_accepted() -> None:
    name = ArtefactName("o" * 39, "m" * 96, "t" * 64)
    assert ArtefactName.parse(str(name)) == name


def test_a_refused_name_says_which_word_and_why() -> None:
    with pytest.raises(Rejection) as refused:
        ArtefactName.parse("alice/ll ama")
    assert str(refused.value) == (
        "bad-name: model: expected at most 96 letters, digits and single inner . _ -, got 'll ama'"
    )
    with pytest.raises(Rejection) as refused:
        ArtefactName.parse("Alice/llama")
    assert str(refused.value) == (
        "bad-name: owner: expected at most 39 lower-case letters, digits and single inner . _ -, got 'Alice'"
    )


def test_models_and_tags_keep_the_case_people_give_them() -> None:
    assert str(ArtefactName.parse("meta-llama/Llama-3.1-8B@v1.0-RC1")) == "meta-llama/Llama-3.1-8B@v1.0-RC1"
    assert ArtefactName.parse("o/M") != ArtefactName.parse("o/m")


def test_chain_ids() -> None:
    assert validate_chain_id("mpisa-devnet-1") == "mpisa-devnet-1"
    assert validate_chain_id("c" * 64) == "c" * 64
    for text in ("", "c" * 65, "Mpisa", "a/b", "a\0b", "-a"):
        with pytest.raises(Rejection) as refused:
            validate_chain_id(text)
        assert refused.value.reason is RejectionReason.BAD_CHAIN_ID
