"""IPNS records made for tests."""

from __future__ import annotations

from datetime import UTC, datetime

from mpisa.primitives.cid import Cid, encode_varint
from mpisa.primitives.ed25519 import public_key, signer
from mpisa.primitives.ipld import encode_dag_cbor
from mpisa.primitives.ipns import LIBP2P_KEY


def name_of(seed: int) -> Cid:
    """The name of the key of that seed."""
    return Cid(1, LIBP2P_KEY, 0, bytes.fromhex("08011220") + public_key(bytes([seed]) * 32))


def record_of(seed: int, value: str, *, sequence: int = 1, until_ms: int, ttl_s: int = 60) -> bytes:
    """A record of that name, signed."""
    moment = datetime.fromtimestamp(until_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
    data = encode_dag_cbor(
        {
            "Value": value.encode(),
            "Validity": f"{moment}Z".encode(),
            "ValidityType": 0,
            "Sequence": sequence,
            "TTL": ttl_s * 10**9,
        }
    )
    signature = signer(bytes([seed]) * 32)(b"ipns-signature:" + data)
    return _field(8, signature) + _field(9, data)


def _field(number: int, value: bytes) -> bytes:
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value
