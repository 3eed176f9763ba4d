"""The header's 340 bytes against the shared vectors; sizes and magic at their bounds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mpisa.primitives.digest import ZERO_DIGEST, chain_hash
from mpisa.primitives.errors import Rejection
from mpisa.primitives.header import (
    HEADER_BYTES,
    Header,
    certificate_digest,
    decode_header,
    encode_header,
    header_digest,
    header_hash,
)
from mpisa.primitives.identifiers import Epoch, Height

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "chain.json").read_text())["headers"]


def header_of(vector: dict[str, Any]) -> Header:
    values = dict(vector["fields"])
    chain = chain_hash(values.pop("chain_id"), bytes.fromhex(values.pop("genesis_hash")))
    digests = {name: bytes.fromhex(value) for name, value in values.items() if isinstance(value, str)}
    return Header(chain_hash=chain, **{**values, **digests})


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["fields"]["chain_id"])
def test_the_vectors(vector: dict[str, Any]) -> None:
    header = header_of(vector)
    assert header.chain_hash.hex() == vector["chain_hash"]
    assert encode_header(header).hex() == vector["bytes"]
    assert header_hash(header).hex() == header.hash.hex() == vector["hash"]
    assert header_digest(header).hex() == vector["certificate_digest"]
    assert certificate_digest(header.chain_hash, header.height, header.hash).hex() == vector["certificate_digest"]
    assert decode_header(bytes.fromhex(vector["bytes"])) == header
    assert header.closes_epoch == (header.next_validators_hash != ZERO_DIGEST)


def test_every_field_counts() -> None:
    header = header_of(VECTORS[0])
    twins = [
        replace(header, **{name: value + 1 if isinstance(value, int) else bytes((value[0] ^ 1,)) + value[1:]})
        for name in Header.__slots__
        for value in [getattr(header, name)]
    ]
    assert len({header.hash, *(twin.hash for twin in twins)}) == 15
    assert len({header_digest(header), *(header_digest(twin) for twin in twins)}) == 15


def test_other_lengths_and_layouts_are_refused() -> None:
    raw = bytes.fromhex(VECTORS[0]["bytes"])
    assert len(raw) == HEADER_BYTES == 340
    for bad, detail in [
        (raw[:-1], "expected 340 bytes, got 339"),
        (raw + b"\0", "expected 340 bytes, got 341"),
        (b"", "expected 340 bytes, got 0"),
        (b"MPISA/hdr/2\0" + raw[12:], "expected it to start with b'MPISA/hdr/1\\x00', got b'MPISA/hdr/2\\x00'"),
    ]:
        with pytest.raises(Rejection) as refused:
            decode_header(bad)
        assert str(refused.value) == f"bad-header: {detail}"


def test_a_field_that_doesnt_fit_is_our_own_bug() -> None:
    header = header_of(VECTORS[0])
    assert encode_header(replace(header, height=Height((1 << 64) - 1)))
    for bad in (replace(header, epoch=Epoch(1 << 64)), replace(header, time_ms=-1)):
        with pytest.raises(ValueError, match="header: expected numbers of 64 bits"):
            encode_header(bad)
    with pytest.raises(ValueError, match=r"header.state_root: expected 32 bytes, got 31"):
        encode_header(replace(header, state_root=bytes(31)))
