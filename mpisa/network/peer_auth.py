"""Peer ID Authentication over HTTP, as the libp2p specification `http/peer-id-auth` has it. Pure: bytes and strings
in and out.

The server challenges, the client signs (with the server's key and name inside, so the answer serves nowhere else),
the server signs the client's challenge in turn and hands out a bearer token. On the peer port the client knew the
server already, from its certificate; that both name the same peer is checked all the same. The server keeps no state:
challenges and tokens are authenticated by a secret of its own, and run out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from mpisa.network.peer_id import HostKey, decode_public_key, is_signed_by, peer_id_of, public_key_of
from mpisa.network.ports import PeerId
from mpisa.primitives.errors import Rejection, RejectionReason

SCHEME = "libp2p-PeerID"
MAX_HEADER = 4096
MAX_PARAMETERS = 12
CHALLENGE_SECONDS = 60
BEARER_SECONDS = 3600
NONCE_BYTES = 32
MAC_BYTES = 32
_PARAMETER = re.compile(r'\s*([a-z-]+)="([A-Za-z0-9_=.:+/-]*)"\s*(?:,|(?=\s)|$)')


@dataclass(frozen=True, slots=True)
class Authenticated:
    """A client that proved its peer id; `info` is the Authentication-Info header to send, if it just did so by
    signature.
    """

    peer_id: PeerId
    info: str | None


def encode_header(parameters: Mapping[str, str]) -> str:
    return f"{SCHEME} " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


def decode_header(header: str) -> dict[str, str]:
    """The parameters of one header of our scheme. Raises Rejection(MALFORMED | TOO_LARGE)."""
    if len(header) > MAX_HEADER:
        raise Rejection(RejectionReason.TOO_LARGE, f"authentication header, expected {MAX_HEADER}, got {len(header)}")
    scheme, _, rest = header.partition(" ")
    if scheme != SCHEME:
        raise Rejection(RejectionReason.MALFORMED, f"authentication scheme, expected {SCHEME}, got {scheme[:40]!r}")
    parameters: dict[str, str] = {}
    position = 0
    while position < len(rest):
        match = _PARAMETER.match(rest, position)
        if match is None or match[1] in parameters or len(parameters) >= MAX_PARAMETERS:
            raise Rejection(RejectionReason.MALFORMED, f"authentication header at {position}: {rest[position:][:40]!r}")
        parameters[match[1]] = match[2]
        position = match.end()
    return parameters


def signed_bytes(parameters: Mapping[str, str | bytes]) -> bytes:
    """What a signature covers: the scheme, then each `name=value` in order of name, with its length before it."""
    out = bytearray(SCHEME.encode())
    for name in sorted(parameters):
        value = parameters[name]
        entry = name.encode() + b"=" + (value if isinstance(value, bytes) else value.encode())
        out += encode_varint(len(entry)) + entry
    return bytes(out)


def encode_varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


class ServerAuthenticator:
    """The server's half. `secret` (32 random bytes) lives as long as the process; times are Unix seconds."""

    def __init__(self, host_key: HostKey, secret: bytes) -> None:
        assert len(secret) == 32
        self._host_key = host_key
        self._secret = secret

    def challenge(self, now: float, nonce: bytes) -> str:
        """A WWW-Authenticate header."""
        opaque = struct.pack(">Q", int(now) + CHALLENGE_SECONDS) + nonce
        return encode_header(
            {
                "challenge-client": self._challenge_of(opaque),
                "public-key": to_base64(self._host_key.encoded_public_key),
                "opaque": to_base64(opaque),
            }
        )

    def authenticate(self, header: str, hostname: str, now: float) -> Authenticated:
        """Who sent this Authorization header. Raises Rejection (MALFORMED, EXPIRED, BAD_SIGNATURE)."""
        parameters = decode_header(header)
        if "bearer" in parameters:
            return Authenticated(self._peer_of_bearer(from_base64(parameters["bearer"]), now), None)
        opaque = from_base64(_need(parameters, "opaque"))
        if len(opaque) != 8 + NONCE_BYTES or int.from_bytes(opaque[:8], "big") < now:
            raise Rejection(RejectionReason.EXPIRED, "challenge, expected one of the last minute")
        encoded_key = from_base64(_need(parameters, "public-key"))
        client_key = decode_public_key(encoded_key)
        covered: dict[str, str | bytes] = {
            "challenge-client": self._challenge_of(opaque),
            "server-public-key": self._host_key.encoded_public_key,
            "hostname": hostname,
        }
        if not is_signed_by(client_key, from_base64(_need(parameters, "sig")), signed_bytes(covered)):
            raise Rejection(RejectionReason.BAD_SIGNATURE, f"client's answer to the challenge for {hostname!r}")
        answer: dict[str, str | bytes] = {
            "challenge-server": _need(parameters, "challenge-server"),
            "client-public-key": encoded_key,
            "hostname": hostname,
        }
        info = encode_header(
            {
                "sig": to_base64(self._host_key.sign(signed_bytes(answer))),
                "bearer": to_base64(self._bearer(client_key, int(now) + BEARER_SECONDS)),
            }
        )
        return Authenticated(peer_id_of(client_key), info)

    def _challenge_of(self, opaque: bytes) -> str:
        return to_base64(hmac.digest(self._secret, b"challenge" + opaque, "sha256"))

    def _bearer(self, client_key: bytes, expires: int) -> bytes:
        body = struct.pack(">Q", expires) + client_key
        return body + hmac.digest(self._secret, b"bearer" + body, "sha256")

    def _peer_of_bearer(self, token: bytes, now: float) -> PeerId:
        body, mac = token[:-MAC_BYTES], token[-MAC_BYTES:]
        if len(body) != 40 or not hmac.compare_digest(mac, hmac.digest(self._secret, b"bearer" + body, "sha256")):
            raise Rejection(RejectionReason.BAD_SIGNATURE, "bearer token, expected one of this server")
        if int.from_bytes(body[:8], "big") < now:
            raise Rejection(RejectionReason.EXPIRED, "bearer token")
        return peer_id_of(body[8:])


class ClientAuthenticator:
    """The client's half of one handshake with one server. `challenge` is text of at least 32 random bytes."""

    def __init__(self, host_key: HostKey, server: PeerId, hostname: str, challenge: str) -> None:
        self._host_key = host_key
        self._server_key = public_key_of(server)
        self._hostname = hostname
        self._challenge = challenge

    def answer(self, header: str) -> str:
        """The Authorization header that answers a WWW-Authenticate header. Raises Rejection when another peer
        challenges.
        """
        parameters = decode_header(header)
        encoded_key = from_base64(_need(parameters, "public-key"))
        if decode_public_key(encoded_key) != self._server_key:
            raise Rejection(RejectionReason.BAD_SIGNATURE, "challenge of another peer than the certificate's")
        covered: dict[str, str | bytes] = {
            "challenge-client": _need(parameters, "challenge-client"),
            "server-public-key": encoded_key,
            "hostname": self._hostname,
        }
        return encode_header(
            {
                "public-key": to_base64(self._host_key.encoded_public_key),
                "opaque": _need(parameters, "opaque"),
                "challenge-server": self._challenge,
                "sig": to_base64(self._host_key.sign(signed_bytes(covered))),
            }
        )

    def finish(self, header: str) -> str:
        """The Authorization header of all later requests, from Authentication-Info. Raises Rejection(BAD_SIGNATURE)."""
        parameters = decode_header(header)
        covered: dict[str, str | bytes] = {
            "challenge-server": self._challenge,
            "client-public-key": self._host_key.encoded_public_key,
            "hostname": self._hostname,
        }
        if not is_signed_by(self._server_key, from_base64(_need(parameters, "sig")), signed_bytes(covered)):
            raise Rejection(RejectionReason.BAD_SIGNATURE, "server's answer to the challenge")
        return encode_header({"bearer": _need(parameters, "bearer")})


def to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


def from_base64(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise Rejection(RejectionReason.MALFORMED, f"expected base64url, got {text[:40]!r}") from error


def _need(parameters: Mapping[str, str], name: str) -> str:
    if name not in parameters:
        raise Rejection(RejectionReason.MALFORMED, f"authentication header, expected {name}")
    return parameters[name]
