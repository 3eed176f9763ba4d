"""DAG-PB: the node format of IPFS files and directories, a protobuf message with data and links.

    PBNode { 2: repeated PBLink links, 1: optional bytes data }
    PBLink { 1: bytes hash, 2: string name, 3: uint64 tsize }

Links are written before data and every link writes its three fields, as all importers do. Reading is strict where it
costs no real file: shortest varints, no unknown or repeated fields, no interleaving of links and data, names in UTF-8;
a link without name or tsize is read as "" and 0. Everything is bounded and iterative.
"""

from dataclasses import dataclass

from mpisa.primitives.errors import Rejection, RejectionReason

MAX_NODE_BYTES = 2 * 1024 * 1024
MAX_NODE_LINKS = 65_536
MAX_LINK_NAME_BYTES = 4096
MAX_VARINT_BYTES = 10

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
"""Protobuf wire types."""

_LINKS_TAG, _DATA_TAG = 0x12, 0x0A
_HASH_TAG, _NAME_TAG, _TSIZE_TAG = 0x0A, 0x12, 0x18
_UINT64_LIMIT = 1 << 64


@dataclass(frozen=True, slots=True)
class PBLink:
    """A link: the target's CID in binary, its name, and the bytes of the whole DAG below it (unchecked hint)."""

    hash: bytes
    name: str
    tsize: int


@dataclass(frozen=True, slots=True)
class PBNode:
    """A node: links in the order of the block, and data (None when the field is absent)."""

    links: tuple[PBLink, ...]
    data: bytes | None


def encode_varint(value: int) -> bytes:
    """An unsigned LEB128 integer, 0 <= value < 2^64."""
    assert 0 <= value < _UINT64_LIMIT, value
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def decode_varint(data: bytes | memoryview, offset: int) -> tuple[int, int]:
    """The varint at `offset` and the offset behind it. Raises Rejection when cut off, over-long or above 64 bits."""
    value = 0
    for index in range(MAX_VARINT_BYTES):
        position = offset + index
        if position >= len(data):
            raise Rejection(RejectionReason.MALFORMED, f"varint at byte {offset} is cut off")
        byte = data[position]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            if byte == 0 and index > 0:
                raise Rejection(RejectionReason.NOT_CANONICAL, f"varint at byte {offset} is not the shortest")
            if value >= _UINT64_LIMIT:
                break
            return value, position + 1
    raise Rejection(RejectionReason.MALFORMED, f"varint at byte {offset} is larger than 64 bits")


def read_bytes(data: bytes, offset: int, what: str) -> tuple[bytes, int]:
    """The length-prefixed bytes at `offset` and the offset behind them; `what` names them in a Rejection."""
    length, start = decode_varint(data, offset)
    end = start + length
    if end > len(data):
        raise Rejection(
            RejectionReason.MALFORMED, f"{what} at byte {offset} claims {length} bytes, {len(data) - start} are left"
        )
    return data[start:end], end


def encode_node(node: PBNode) -> bytes:
    """The node's block."""
    parts: list[bytes] = []
    for link in node.links:
        name = link.name.encode()
        body = b"".join((
            b"\x0a", encode_varint(len(link.hash)), link.hash,
            b"\x12", encode_varint(len(name)), name,
            b"\x18", encode_varint(link.tsize),
        ))  # fmt: skip
        parts += (b"\x12", encode_varint(len(body)), body)
    if node.data is not None:
        parts += (b"\x0a", encode_varint(len(node.data)), node.data)
    return b"".join(parts)


def decode_node(data: bytes) -> PBNode:
    """The node in a block. Raises Rejection that says what is wrong, and where."""
    if len(data) > MAX_NODE_BYTES:
        raise Rejection(RejectionReason.TOO_LARGE, f"dag-pb node of {len(data)} bytes, at most {MAX_NODE_BYTES}")
    links: list[PBLink] = []
    payload: bytes | None = None
    offset = 0
    links_closed = False
    while offset < len(data):
        tag = data[offset]
        if tag == _LINKS_TAG:
            if links_closed:
                raise Rejection(RejectionReason.NOT_CANONICAL, f"link at byte {offset} is apart from the other links")
            if len(links) == MAX_NODE_LINKS:
                raise Rejection(RejectionReason.TOO_LARGE, f"dag-pb node with more than {MAX_NODE_LINKS} links")
            body, offset = read_bytes(data, offset + 1, "link")
            links.append(_decode_link(body, len(links)))
        elif tag == _DATA_TAG:
            if payload is not None:
                raise Rejection(RejectionReason.NOT_CANONICAL, f"second data field at byte {offset}")
            payload, offset = read_bytes(data, offset + 1, "data")
            links_closed = bool(links)
        else:
            raise Rejection(RejectionReason.MALFORMED, f"unexpected dag-pb field tag {tag:#04x} at byte {offset}")
    return PBNode(tuple(links), payload)


def _decode_link(body: bytes, index: int) -> PBLink:
    target: bytes | None = None
    name = ""
    tsize = 0
    offset = 0
    last_tag = 0
    while offset < len(body):
        tag = body[offset]
        if tag <= last_tag or tag not in (_HASH_TAG, _NAME_TAG, _TSIZE_TAG):
            raise Rejection(RejectionReason.MALFORMED, f"link {index}: unexpected field tag {tag:#04x}")
        last_tag = tag
        if tag == _HASH_TAG:
            target, offset = read_bytes(body, offset + 1, f"link {index}: hash")
        elif tag == _NAME_TAG:
            raw, offset = read_bytes(body, offset + 1, f"link {index}: name")
            name = _decode_name(raw, index)
        else:
            tsize, offset = decode_varint(body, offset + 1)
    if not target:
        raise Rejection(RejectionReason.MALFORMED, f"link {index} has no hash")
    return PBLink(target, name, tsize)


def _decode_name(raw: bytes, index: int) -> str:
    if len(raw) > MAX_LINK_NAME_BYTES:
        raise Rejection(
            RejectionReason.TOO_LARGE, f"link {index}: name of {len(raw)} bytes, at most {MAX_LINK_NAME_BYTES}"
        )
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise Rejection(RejectionReason.MALFORMED, f"link {index}: name is not UTF-8") from None
