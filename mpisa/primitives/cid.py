"""Content identifiers: which bytes, by their hash, and how to read them, by a codec.

A CID is version, codec and multihash. Version 0 is a bare sha2-256 multihash of a DAG-PB block, written in base58;
version 1 is written in base32 here and read in any multibase that libipld knows. Equality is that of the binary form:
the same content under another codec or version is another CID; `multihash` is what they share.

Only sha2-256 proves anything here (and identity, whose digest IS the content, up to a small bound): any other hash
parses, so that it can be shown, and is refused when bytes are to be checked against it.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

import libipld

from mpisa.primitives.errors import Rejection, RejectionReason

RAW: Final = 0x55
DAG_PB: Final = 0x70
DAG_CBOR: Final = 0x71
DAG_JSON: Final = 0x0129
SHA2_256: Final = 0x12
IDENTITY: Final = 0x00

MAX_IDENTITY_BYTES: Final = 128
MAX_DIGEST_BYTES: Final = 128
MAX_CID_BYTES: Final = 160
MAX_CID_CHARACTERS: Final = 512
_MAX_VARINT: Final = (1 << 63) - 1
_V0_PREFIX: Final = b"\x12\x20"
_SHA2_256_BYTES: Final = 32
_COMMON_PREFIXES: Final = {bytes((1, codec)) + _V0_PREFIX: codec for codec in (RAW, DAG_PB)}


@dataclass(frozen=True, slots=True, order=True)
class Cid:
    """Version 0 or 1, the multicodec of the content, the multihash code and the digest bytes."""

    version: int
    codec: int
    digest_code: int
    digest: bytes

    @classmethod
    def of(cls, data: bytes, *, codec: int = RAW, version: int = 1) -> "Cid":
        """The sha2-256 CID of a block. Version 0 goes with DAG_PB only; raises ValueError otherwise."""
        if version != 1 and (version != 0 or codec != DAG_PB):
            raise ValueError(f"no CID of version {version} with codec {codec:#x}")
        return cls(version, codec, SHA2_256, hashlib.sha256(data).digest())

    @classmethod
    def parse(cls, text: str) -> "Cid":
        """From its text, in base58 (version 0) or any multibase (version 1). Raises Rejection(BAD_CID)."""
        if len(text) > MAX_CID_CHARACTERS:
            raise _bad(f"expected at most {MAX_CID_CHARACTERS} characters, got {len(text)}")
        try:
            if len(text) == 46 and text.startswith("Qm"):
                _, raw = libipld.decode_multibase("z" + text)
            else:
                _, raw = libipld.decode_multibase(text)
        except ValueError as error:
            raise _bad(f"{text!r} is no CID: {error}") from None
        cid = cls.from_bytes(raw)
        if cid.version == 0 and not text.startswith("Qm"):
            raise _bad(f"{text!r}: version 0 takes no multibase prefix")
        return cid

    @classmethod
    def from_bytes(cls, raw: bytes) -> "Cid":
        """From its binary form, all of it. Raises Rejection(BAD_CID); varints must be of shortest form."""
        if len(raw) > MAX_CID_BYTES:
            raise _bad(f"expected at most {MAX_CID_BYTES} bytes, got {len(raw)}")
        codec = _COMMON_PREFIXES.get(bytes(raw[:4]))
        if codec is not None and len(raw) == 4 + _SHA2_256_BYTES:
            return cls(1, codec, SHA2_256, bytes(raw[4:]))
        if raw[:2] == _V0_PREFIX:
            if len(raw) != len(_V0_PREFIX) + _SHA2_256_BYTES:
                raise _bad(f"version 0: expected {len(_V0_PREFIX) + _SHA2_256_BYTES} bytes, got {len(raw)}")
            return cls(0, DAG_PB, SHA2_256, bytes(raw[2:]))
        version, offset = read_varint(raw, 0)
        if version != 1:
            raise _bad(f"expected version 1, got {version}")
        codec, offset = read_varint(raw, offset)
        digest_code, offset = read_varint(raw, offset)
        size, offset = read_varint(raw, offset)
        if len(raw) - offset != size:
            raise _bad(f"expected a digest of {size} bytes, got {len(raw) - offset}")
        _validate_digest(digest_code, size)
        return cls(1, codec, digest_code, bytes(raw[offset:]))

    @property
    def multihash(self) -> bytes:
        """Hash code, length and digest: what two CIDs of the same content under one hash share."""
        return encode_varint(self.digest_code) + encode_varint(len(self.digest)) + self.digest

    def to_bytes(self) -> bytes:
        """The binary form, as links and CAR files carry it."""
        if self.version == 0:
            return _V0_PREFIX + self.digest
        return b"\x01" + encode_varint(self.codec) + self.multihash

    def __str__(self) -> str:
        raw = self.to_bytes()
        # Not libipld's own writer for version 1: that one has no text for digests above 64 bytes.
        return str(libipld.encode_cid(raw) if self.version == 0 else libipld.encode_multibase("b", raw))

    def matches(self, data: bytes) -> bool:
        """Whether these bytes are the block. Raises Rejection(UNSUPPORTED_HASH) for a hash that is not checked here."""
        if self.digest_code == SHA2_256:
            return hashlib.sha256(data).digest() == self.digest
        if self.digest_code == IDENTITY:
            return data == self.digest
        raise Rejection(
            RejectionReason.UNSUPPORTED_HASH,
            f"{self}: expected sha2-256 or identity, got multihash code {self.digest_code:#x}",
        )

    def require_supported(self) -> "Cid":
        """The CID itself. Raises Rejection(UNSUPPORTED_HASH) when no bytes could be checked against it."""
        if self.digest_code not in (SHA2_256, IDENTITY):
            raise Rejection(
                RejectionReason.UNSUPPORTED_HASH,
                f"{self}: expected sha2-256 or identity, got multihash code {self.digest_code:#x}",
            )
        return self


def encode_varint(value: int) -> bytes:
    """Unsigned LEB128 of shortest form, at most 63 bits."""
    if not 0 <= value <= _MAX_VARINT:
        raise ValueError(f"no varint of 63 bits: {value}")
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def read_varint(raw: bytes, offset: int) -> tuple[int, int]:
    """The varint at the offset and the offset behind it. Raises Rejection(BAD_CID)."""
    value = 0
    for position in range(9):
        if offset + position >= len(raw):
            raise _bad(f"truncated: a number at byte {offset} has no end")
        byte = raw[offset + position]
        value |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            if byte == 0 and position:
                raise _bad(f"a number at byte {offset} isn't of shortest form")
            return value, offset + position + 1
    raise _bad(f"a number at byte {offset} is longer than 63 bits")


def _validate_digest(code: int, size: int) -> None:
    if code == SHA2_256 and size != _SHA2_256_BYTES:
        raise _bad(f"sha2-256: expected a digest of {_SHA2_256_BYTES} bytes, got {size}")
    limit = MAX_IDENTITY_BYTES if code == IDENTITY else MAX_DIGEST_BYTES
    if size > limit:
        raise _bad(f"expected a digest of at most {limit} bytes, got {size}")


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.BAD_CID, detail)
