import asyncio
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mpisa.network.peer_id import HostKey
from mpisa.network.tls import (
    EXTENSION,
    SIGNATURE_PREFIX,
    client_context,
    decode_signed_key,
    encode_signed_key,
    make_certificate,
    server_context,
    verify_certificate,
)
from mpisa.primitives.errors import Rejection, RejectionReason

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
KEY = HostKey(bytes([1]) * 32)
OTHER = HostKey(bytes([2]) * 32)


def der_of(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def build(*, extension: bytes | None, signer=None, issuer_key=None, critical: bool = False, private=None) -> bytes:
    private = private or ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "libp2p")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )
    if extension is not None:
        builder = builder.add_extension(x509.UnrecognizedExtension(EXTENSION, extension), critical=False)
    if critical:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x")
        builder = builder.add_extension(unknown, critical=True)
    return builder.sign(issuer_key or private, hashes.SHA256()).public_bytes(Encoding.DER)


def binding(private, key: HostKey = KEY) -> bytes:
    spki = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return encode_signed_key(key.encoded_public_key, key.sign(SIGNATURE_PREFIX + spki))


def refused(der: bytes, now: datetime.datetime = NOW) -> RejectionReason:
    with pytest.raises(Rejection) as caught:
        verify_certificate(der, now)
    return caught.value.reason


def test_our_certificate_proves_our_peer_id():
    certificate, _ = make_certificate(KEY, NOW)
    assert verify_certificate(der_of(certificate), NOW) == KEY.peer_id


def test_it_is_valid_only_in_its_time():
    certificate, _ = make_certificate(KEY, NOW)
    assert refused(der_of(certificate), NOW - DAY) is RejectionReason.EXPIRED
    assert refused(der_of(certificate), NOW + DAY * 3651) is RejectionReason.EXPIRED


def test_forgeries_are_refused():
    private, stranger = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    good = binding(private)
    assert verify_certificate(build(extension=good, private=private), NOW) == KEY.peer_id
    assert refused(build(extension=None)) is RejectionReason.MALFORMED
    assert refused(build(extension=good)) is RejectionReason.BAD_SIGNATURE, "an extension of another certificate"
    assert refused(build(extension=good, private=private, issuer_key=stranger)) is RejectionReason.BAD_SIGNATURE
    assert refused(build(extension=good, private=private, critical=True)) is RejectionReason.MALFORMED
    assert refused(build(extension=b"\x30\x00", private=private)) is RejectionReason.MALFORMED
    foreign = encode_signed_key(KEY.encoded_public_key, OTHER.sign(b"anything"))
    assert refused(build(extension=foreign, private=private)) is RejectionReason.BAD_SIGNATURE
    assert refused(b"not a certificate") is RejectionReason.MALFORMED
    assert refused(bytes(9000)) is RejectionReason.TOO_LARGE


@pytest.mark.parametrize(
    "der", ["", "30", "3001", "30020400", "31020400", "3004040004000000", "300504ff000000", "30800000"]
)
def test_broken_extensions_are_refused(der):
    with pytest.raises(Rejection):
        decode_signed_key(bytes.fromhex(der))


async def shake(server_key: HostKey, expected: str) -> str:
    """A handshake, and one line across it."""

    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    context = server_context(server_key, datetime.datetime.now(datetime.UTC))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context(expected))
        writer.write(b"hello\n")
        line = await reader.readline()
        writer.close()
        return line.decode()


async def test_a_handshake_with_the_right_peer():
    assert await shake(KEY, KEY.peer_id) == "hello\n"


async def test_a_handshake_with_another_peer_ends_before_a_byte_is_sent():
    with pytest.raises(ssl.SSLError, match=f"expected peer {OTHER.peer_id}, got {KEY.peer_id}"):
        await shake(KEY, OTHER.peer_id)
