"""What the transfer is compared with: aiohttp over TLS, hashed on arrival and not stored; and the disk's own speed.

The server is a process of its own, as a node is. Its certificate is self-signed and made for the run; the client takes
exactly that one. `aiohttp` and `cryptography` do here what they do in a node, without the node around them.
"""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import os
import signal
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHUNK_BYTES = 1 << 20
_READY_TIMEOUT_S = 20.0
_HOST = "127.0.0.1"


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed P-256 certificate for the loopback address: (certificate, key) in PEM files."""
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "mpisa-bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(_HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


async def _serve(port: int, file: Path, certificate: Path, key: Path) -> None:
    from aiohttp import web

    data = await asyncio.to_thread(file.read_bytes)

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        view = memoryview(data)
        for at in range(0, len(data), CHUNK_BYTES):
            await response.write(view[at : at + CHUNK_BYTES])
        await response.write_eof()
        return response

    application = web.Application()
    application.router.add_get("/", answer)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, _HOST, port, ssl_context=context).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    await runner.cleanup()


def serve_main(port: str, file: str, certificate: str, key: str) -> None:
    """Entry of the server's process: `python -c "... serve_main(*sys.argv[1:])"`."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(int(port), Path(file), Path(certificate), Path(key)))


@contextmanager
def server(file: Path, directory: Path) -> Iterator[tuple[str, Path]]:
    """A running reference server for `file`: (URL, certificate to trust)."""
    import socket
    import subprocess
    import sys

    from devnet.ports import choose_ports

    certificate, key = make_certificate(directory)
    (port,) = choose_ports(1, None)
    program = "import sys; from mpisa.cli.bench.reference import serve_main; serve_main(*sys.argv[1:])"
    process = subprocess.Popen([sys.executable, "-c", program, str(port), str(file), str(certificate), str(key)])
    try:
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                socket.create_connection((_HOST, port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield f"https://{_HOST}:{port}/", certificate
    finally:
        process.terminate()
        process.wait()


async def _fetch(url: str, certificate: Path) -> tuple[int, float]:
    import aiohttp

    context = ssl.create_default_context(cafile=str(certificate))
    async with aiohttp.ClientSession() as session:
        begun = time.perf_counter()
        async with session.get(url, ssl=context) as answer:
            digest, count = hashlib.sha256(), 0
            async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
                digest.update(chunk)
                count += len(chunk)
        return count, time.perf_counter() - begun


def fetch_hashed(url: str, certificate: Path) -> float:
    """MiB/s of one download that is hashed on arrival and not stored."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        count, seconds = runner.run(_fetch(url, certificate))
    return count / (1 << 20) / seconds


def write_synced(directory: Path, count: int) -> float:
    """MiB/s of a sequential write of `count` bytes with one fsync at the end."""
    block = os.urandom(CHUNK_BYTES)
    path = directory / "sequential"
    begun = time.perf_counter()
    with path.open("wb") as stream:
        for _ in range(count // CHUNK_BYTES):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
    seconds = time.perf_counter() - begun
    path.unlink()
    return count / (1 << 20) / seconds
