"""TLS for the peer port, after the libp2p TLS 1.3 handshake specification.

The server's certificate is self-signed by a key made for it alone; an extension carries the host's public key and its
signature over the certificate's key. So whoever checks the extension knows the peer id, and certificate authorities
play no part. The client checks it between handshake and first request: `client_context(peer_id)` gives a stock
SSLContext whose SSL object does so. Non-goals: mutual TLS (stock `ssl` servers refuse unknown self-signed client
certificates); the client proves itself by `peer_auth`.
"""

from __future__ import annotations

import datetime
import os
import ssl
import tempfile
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from mpisa.network.peer_id import HostKey, decode_public_key, is_signed_by, peer_id_of
from mpisa.network.ports import PeerId
from mpisa.primitives.errors import Rejection, RejectionReason

EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.53594.1.1")
SIGNATURE_PREFIX = b"libp2p-tls-handshake:"
MAX_CERTIFICATE_BYTES = 8192
VALIDITY = datetime.timedelta(days=365 * 10)
CLOCK_SKEW = datetime.timedelta(hours=1)
OCTET_STRING = 0x04
SEQUENCE = 0x30


def make_certificate(host_key: HostKey, now: datetime.datetime) -> tuple[bytes, bytes]:
    """A fresh self-signed P-256 certificate (PEM) that binds the host key, and its private key (PEM)."""
    private = ec.generate_private_key(ec.SECP256R1())
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signed_key = encode_signed_key(host_key.encoded_public_key, host_key.sign(SIGNATURE_PREFIX + spki))
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "libp2p")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + VALIDITY)
        .add_extension(x509.UnrecognizedExtension(EXTENSION, signed_key), critical=False)
        .sign(private, hashes.SHA256())
    )
    key_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM), key_pem


def verify_certificate(der: bytes, now: datetime.datetime) -> PeerId:
    """The peer id that a DER certificate proves. Raises Rejection when anything about it is wrong: size, shape,
    validity, its own signature, the extension, the host key's signature, an unknown critical extension.
    """
    if len(der) > MAX_CERTIFICATE_BYTES:
        raise Rejection(
            RejectionReason.TOO_LARGE, f"certificate, expected {MAX_CERTIFICATE_BYTES} bytes, got {len(der)}"
        )
    try:
        certificate = x509.load_der_x509_certificate(der)
        extensions = list(certificate.extensions)
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature as error:
        raise Rejection(RejectionReason.BAD_SIGNATURE, "certificate isn't signed by its own key") from error
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise Rejection(RejectionReason.MALFORMED, f"certificate: {error}") from error
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise Rejection(
            RejectionReason.EXPIRED, f"certificate, valid until {certificate.not_valid_after_utc.isoformat()}"
        )
    signed_key = None
    for extension in extensions:
        if extension.oid == EXTENSION and isinstance(extension.value, x509.UnrecognizedExtension):
            signed_key = extension.value.value
        elif extension.critical:
            raise Rejection(RejectionReason.MALFORMED, f"certificate, unknown critical {extension.oid.dotted_string}")
    if signed_key is None:
        raise Rejection(RejectionReason.MALFORMED, "certificate, expected the libp2p extension, got none")
    encoded_key, signature = decode_signed_key(signed_key)
    public_key = decode_public_key(encoded_key)
    if not is_signed_by(public_key, signature, SIGNATURE_PREFIX + spki):
        raise Rejection(RejectionReason.BAD_SIGNATURE, "certificate's key isn't signed by the host key")
    return peer_id_of(public_key)


def encode_signed_key(public_key: bytes, signature: bytes) -> bytes:
    """DER of SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }, each under 128 bytes."""
    body = bytes((OCTET_STRING, len(public_key))) + public_key + bytes((OCTET_STRING, len(signature))) + signature
    assert len(body) < 128, "an Ed25519 key and signature fit the short form"
    return bytes((SEQUENCE, len(body))) + body


def decode_signed_key(der: bytes) -> tuple[bytes, bytes]:
    """Inverse of `encode_signed_key`; only the short form, which Ed25519 always fits. Raises Rejection(MALFORMED)."""
    if len(der) < 2 or der[0] != SEQUENCE or der[1] >= 128 or len(der) != der[1] + 2:
        raise Rejection(RejectionReason.MALFORMED, "libp2p extension, expected a short SEQUENCE")
    parts = []
    rest = der[2:]
    while rest:
        if len(rest) < 2 or rest[0] != OCTET_STRING or rest[1] >= 128 or len(rest) < 2 + rest[1]:
            raise Rejection(RejectionReason.MALFORMED, "libp2p extension, expected short OCTET STRINGs")
        parts.append(rest[2 : 2 + rest[1]])
        rest = rest[2 + rest[1] :]
    if len(parts) != 2:
        raise Rejection(RejectionReason.MALFORMED, f"libp2p extension, expected 2 strings, got {len(parts)}")
    return parts[0], parts[1]


class WrongPeer(ssl.SSLError):
    """The other end of a TLS connection isn't who it should be."""


@cache
def _checking_object(expected: PeerId) -> type[ssl.SSLObject]:
    class PeerCheckedObject(ssl.SSLObject):
        """Ends the handshake with an error unless the certificate proves the expected peer id."""

        def do_handshake(self) -> None:
            super().do_handshake()
            der = self.getpeercert(binary_form=True)
            if der is None:
                raise WrongPeer("no certificate")
            try:
                found = verify_certificate(der, datetime.datetime.now(datetime.UTC))
            except Rejection as rejection:
                raise WrongPeer(str(rejection)) from rejection
            if found != expected:
                raise WrongPeer(f"expected peer {expected}, got {found}")

    return PeerCheckedObject


def client_context(expected: PeerId) -> ssl.SSLContext:
    """A TLS 1.3 context whose handshakes succeed with the expected peer only, whatever name or address it was reached
    by.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the peer id is checked instead, by the SSL object
    context.sslobject_class = _checking_object(expected)
    return context


def server_context(host_key: HostKey, now: datetime.datetime) -> ssl.SSLContext:
    """A TLS 1.3 context with a fresh certificate of this host. The key touches the disk only as a 0600 file that is
    removed at once, since `ssl` loads from files alone.
    """
    certificate, key = make_certificate(host_key, now)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    descriptor, path = tempfile.mkstemp(prefix="mpisa-tls-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key + certificate)
        context.load_cert_chain(path)
    finally:
        Path(path).unlink()
    return context
