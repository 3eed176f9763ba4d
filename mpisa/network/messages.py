"""Hello: what two nodes tell each other first on a libp2p connection, and the answers of the request fallback. Pure
and bounded.

The dialler asks with its hello, the other answers with its own. A different chain hash ends the connection, with the
reason said.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mpisa.network.ports import PeerAddress, PeerId
from mpisa.primitives.codec import decode, encode, expect_bytes, expect_int, expect_map, expect_str, expect_tuple
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, RejectionReason, Unreachable

HELLO_PROTOCOL = "/mpisa/hello/1"
REQUEST_PROTOCOL = "/mpisa/request/1"
MAX_HELLO_BYTES = 4096
MAX_ADDRESSES = 8
MAX_ADDRESS_TEXT = 200
MAX_VERSION_TEXT = 64
MAX_KIND_TEXT = 40
MAX_DETAIL_TEXT = 1000
REQUEST_OVERHEAD = 64
ANSWER_OVERHEAD = 8 * MAX_DETAIL_TEXT
_PEER_PORT = re.compile(r"/(ip4|ip6|dns4|dns6|dns)/([0-9A-Za-z.:-]{1,120})/tcp/([0-9]{1,5})/tls/http")
_ANSWERED, _NOT_FOUND, _REJECTED, _FAILED = range(4)


@dataclass(frozen=True, slots=True)
class Hello:
    """Who we are: chain hash (32 bytes), version, libp2p addresses, and the peer port as a `/tls/http` multiaddr."""

    chain_hash: bytes
    version: str
    addresses: tuple[str, ...]
    peer_port: str | None

    def address_of(self, peer: PeerId) -> PeerAddress:
        return PeerAddress(peer, self.addresses, None if self.peer_port is None else url_of(self.peer_port))


def encode_hello(hello: Hello) -> bytes:
    return encode(
        {
            "addresses": hello.addresses,
            "chain": hello.chain_hash,
            "peer_port": hello.peer_port,
            "version": hello.version,
        }
    )


def decode_hello(data: bytes) -> Hello:
    """Raises Rejection for anything but a well-formed hello."""
    fields = expect_map(
        decode(data, max_bytes=MAX_HELLO_BYTES), "hello", keys=("addresses", "chain", "peer_port", "version")
    )
    addresses = expect_tuple(fields["addresses"], "addresses", MAX_ADDRESSES)
    peer_port = fields["peer_port"]
    if peer_port is not None:
        url_of(expect_str(peer_port, "peer_port", MAX_ADDRESS_TEXT))
    return Hello(
        chain_hash=expect_bytes(fields["chain"], "chain", length=32),
        version=expect_str(fields["version"], "version", MAX_VERSION_TEXT),
        addresses=tuple(expect_str(address, "address", MAX_ADDRESS_TEXT) for address in addresses),
        peer_port=None if peer_port is None else str(peer_port),
    )


def peer_port_of(host: str, port: int) -> str:
    """The multiaddr of a peer port."""
    if ":" in host:
        return f"/ip6/{host}/tcp/{port}/tls/http"
    return f"/{'ip4' if host.replace('.', '').isdigit() else 'dns4'}/{host}/tcp/{port}/tls/http"


def url_of(peer_port: str) -> str:
    """`https://host:port` of a peer port's multiaddr. Raises Rejection(MALFORMED)."""
    match = _PEER_PORT.fullmatch(peer_port)
    if match is None or not 0 < int(match[3]) < 65536 or (":" in match[2]) != (match[1] == "ip6"):
        raise Rejection(RejectionReason.MALFORMED, f"peer port, expected /ip4/H/tcp/P/tls/http: {peer_port[:80]!r}")
    host = f"[{match[2]}]" if match[1] == "ip6" else match[2]
    return f"https://{host}:{match[3]}"


def split_peer_address(multiaddr: str) -> tuple[PeerId, str]:
    """The peer id and the rest of a multiaddr that ends in `/p2p/ID`. Raises Rejection(MALFORMED)."""
    address, separator, peer = multiaddr.rpartition("/p2p/")
    if not separator or not address or "/" in peer:
        raise Rejection(RejectionReason.MALFORMED, f"multiaddr, expected it to end in /p2p/ID: {multiaddr[:120]!r}")
    return PeerId(peer), address


def encode_request(kind: str, body: bytes) -> bytes:
    return encode((kind, body))


def decode_request(data: bytes, max_bytes: int) -> tuple[str, bytes]:
    parts = expect_tuple(decode(data, max_bytes=max_bytes + REQUEST_OVERHEAD), "request", 2)
    if len(parts) != 2:
        raise Rejection(RejectionReason.MALFORMED, f"request, expected kind and body, got {len(parts)} parts")
    return expect_str(parts[0], "kind", MAX_KIND_TEXT), expect_bytes(parts[1], "body", max_length=max_bytes)


def encode_answer(answer: bytes | MpisaError) -> bytes:
    if isinstance(answer, bytes):
        return encode((_ANSWERED, answer, ""))
    if isinstance(answer, Rejection):
        return encode((_REJECTED, answer.reason.value.encode(), answer.detail[:MAX_DETAIL_TEXT]))
    status = _NOT_FOUND if isinstance(answer, NotFound) else _FAILED
    return encode((status, b"", answer.message[:MAX_DETAIL_TEXT]))


def decode_answer(data: bytes, max_bytes: int) -> bytes:
    """The answer, or raises the error with which the peer answered."""
    parts = expect_tuple(decode(data, max_bytes=max_bytes + ANSWER_OVERHEAD), "answer", 3)
    if len(parts) != 3:
        raise Rejection(RejectionReason.MALFORMED, f"answer, expected 3 parts, got {len(parts)}")
    status = expect_int(parts[0], "status", _ANSWERED, _FAILED)
    body = expect_bytes(parts[1], "body", max_length=max_bytes)
    detail = expect_str(parts[2], "detail", MAX_DETAIL_TEXT * 4)
    if status == _ANSWERED:
        return body
    if status == _NOT_FOUND:
        raise NotFound(detail)
    if status == _REJECTED:
        try:
            reason = RejectionReason(body.decode("ascii"))
        except ValueError as error:
            raise Unreachable(detail) from error
        raise Rejection(reason, detail)
    raise Unreachable(detail)
