"""DAG-PB as a value of the IPLD data model, for whoever converts it: {"Links": [{"Hash", "Name", "Tsize"}], "Data"}.

Unlike the nodes of `dag_pb`, which files and directories are made of, this form keeps apart what is absent and what is
empty or zero, so that every block comes back byte for byte. What is no such form, or has links that aren't sorted by
name, is refused.
"""

from typing import Final

from mpisa.primitives.cid import Cid
from mpisa.primitives.dag_pb import (
    MAX_NODE_BYTES,
    MAX_NODE_LINKS,
    decode_node,
    decode_varint,
    encode_varint,
    read_bytes,
)
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.ipld import LARGEST_INT, Link, Value, encode_text

_HASH, _NAME, _TSIZE = "Hash", "Name", "Tsize"
_LINK_FIELDS: Final = {0x0A: _HASH, 0x12: _NAME, 0x18: _TSIZE}
_LINKS_TAG: Final = 0x12


def decode_dag_pb(block: bytes) -> Value:
    """The value of a block. Raises Rejection for whatever `decode_node` refuses, and for links that are no CIDs."""
    node = decode_node(block)
    links: list[Value] = []
    offset = 0
    while offset < len(block):
        tag = block[offset]
        body, offset = read_bytes(block, offset + 1, "field")
        if tag == _LINKS_TAG:
            fields = _fields_of(body)
            link = node.links[len(links)]
            form: dict[str, Value] = {_HASH: Link(Cid.from_bytes(link.hash))}
            if _NAME in fields:
                form[_NAME] = link.name
            if _TSIZE in fields:
                form[_TSIZE] = link.tsize
            links.append(form)
    if node.data is None:
        return {"Links": links}
    return {"Data": node.data, "Links": links}


def encode_dag_pb(value: Value) -> bytes:
    """The block of a value of this form. Raises Rejection that says where it is none."""
    if not isinstance(value, dict) or not set(value) <= {"Data", "Links"}:
        raise _bad("expected a map of Links and Data")
    links = value.get("Links")
    if not isinstance(links, list):
        raise _bad("Links must be a list")
    if len(links) > MAX_NODE_LINKS:
        raise Rejection(RejectionReason.TOO_LARGE, f"dag-pb form with more than {MAX_NODE_LINKS} links")
    parts: list[bytes] = []
    last = b""
    for index, link in enumerate(links):
        name, body = _encode_link(link, index)
        if name < last:
            raise Rejection(RejectionReason.NOT_CANONICAL, f"dag-pb form: link {index} is out of order")
        last = name
        parts += (b"\x12", encode_varint(len(body)), body)
    if "Data" in value:
        data = value["Data"]
        if not isinstance(data, bytes):
            raise _bad("Data must be bytes")
        parts += (b"\x0a", encode_varint(len(data)), data)
    block = b"".join(parts)
    if len(block) > MAX_NODE_BYTES:
        raise Rejection(RejectionReason.TOO_LARGE, f"dag-pb node of {len(block)} bytes, at most {MAX_NODE_BYTES}")
    return block


def _fields_of(body: bytes) -> set[str]:
    """Which fields a link that was decoded already has."""
    found: set[str] = set()
    offset = 0
    while offset < len(body):
        field = _LINK_FIELDS[body[offset]]
        found.add(field)
        if field == _TSIZE:
            _, offset = decode_varint(body, offset + 1)
        else:
            _, offset = read_bytes(body, offset + 1, field)
    return found


def _encode_link(link: Value, index: int) -> tuple[bytes, bytes]:
    """The name that a link is sorted by, and its message."""
    if not isinstance(link, dict) or not set(link) <= {_HASH, _NAME, _TSIZE}:
        raise _bad(f"link {index} must be a map of {_HASH}, {_NAME} and {_TSIZE}")
    target = link.get(_HASH)
    if not isinstance(target, Link):
        raise _bad(f"link {index}: {_HASH} must be a CID")
    raw = target.cid.to_bytes()
    parts = [b"\x0a", encode_varint(len(raw)), raw]
    name = link.get(_NAME, "")
    if not isinstance(name, str):
        raise _bad(f"link {index}: {_NAME} must be text")
    encoded = encode_text(name)
    if _NAME in link:
        parts += (b"\x12", encode_varint(len(encoded)), encoded)
    if _TSIZE in link:
        size = link[_TSIZE]
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= LARGEST_INT:
            raise _bad(f"link {index}: {_TSIZE} must be an integer of 0 to 2^64-1")
        parts += (b"\x18", encode_varint(size))
    return encoded, b"".join(parts)


def _bad(detail: str) -> Rejection:
    return Rejection(RejectionReason.MALFORMED, f"dag-pb form: {detail}")
