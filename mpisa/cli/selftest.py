"""`mpisa selftest`: quick checks of this installation and machine, offline.

Known answers catch a broken build of a library, the rest a machine that a node would not be happy on.
"""

from __future__ import annotations

import importlib.metadata
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mpisa.cli.commands import command
from mpisa.cli.render import emit, size, table
from mpisa.primitives.errors import MpisaError

PINNED = {"libp2p": "0.8.1", "plyvel": "1.5.1", "py-ed25519-zebra-bindings": "1.3.0"}
MIN_OPEN_FILES = 1024
_FSYNCS = 5
_PROBE_BYTES = 1 << 20

# RFC 8032, section 7.1, test 2.
_ED25519_SEED = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
_ED25519_PUBLIC = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
_ED25519_SIGNATURE = (
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


class SelfTestFailed(MpisaError):
    """At least one check did not hold."""

    code = "selftest-failed"


def _python() -> str:
    if not (3, 11) <= sys.version_info[:2] < (3, 13):
        raise ValueError(f"Python {sys.version.split()[0]}: expected 3.11 or 3.12")
    return sys.version.split()[0]


def _versions() -> str:
    found = {name: importlib.metadata.version(name) for name in PINNED}
    wrong = [f"{name} {found[name]}, expected {wanted}" for name, wanted in PINNED.items() if found[name] != wanted]
    if wrong:
        raise ValueError("; ".join(wrong))
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _codec() -> str:
    from mpisa.primitives import codec

    value: codec.Value = {"a": (1, -1, True, None), "b": b"\x00\xff", "c": "é"}
    encoded = codec.encode(value)
    expected = bytes.fromhex("83a1619401ffc3c0a162c40200ffa163a2c3a9")
    if encoded != expected or codec.decode(encoded, max_bytes=64) != value:
        raise ValueError(f"encoded as {encoded.hex()}, expected {expected.hex()}")
    return "canonical msgpack as expected"


def _keys() -> str:
    from mpisa.primitives.keys import KeyKind, private_key

    known = private_key(KeyKind.ED25519, bytes.fromhex(_ED25519_SEED))
    if known.public_key.data.hex() != _ED25519_PUBLIC or known.sign(b"\x72").hex() != _ED25519_SIGNATURE:
        raise ValueError("Ed25519 does not give the answer of RFC 8032")
    for kind in KeyKind:
        key = private_key(kind, bytes(range(1, 33)))
        signature = key.sign(b"selftest")
        if not key.public_key.verify(b"selftest", signature) or key.public_key.verify(b"another", signature):
            raise ValueError(f"{kind.value}: a signature does not verify as it should")
    return ", ".join(kind.value for kind in KeyKind)


def _cid() -> str:
    from mpisa.primitives.cid import Cid

    found = str(Cid.of(b""))
    if found != "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku":
        raise ValueError(f"the CID of nothing is {found}")
    return "known CID as expected"


def _merkle() -> str:
    from mpisa.primitives import merkle

    items = {bytes([at]) * 4: bytes([at]) for at in range(16)}
    tree = merkle.build(items)
    root = merkle.root_hash(tree)
    for key, value in items.items():
        merkle.verify_membership(root, key, value, merkle.prove(tree, key))
    merkle.verify_absence(root, b"absent", merkle.prove(tree, b"absent"))
    return "membership and absence proven and checked"


def _disk() -> str:
    with tempfile.TemporaryDirectory(prefix="mpisa-selftest-") as directory:
        path = Path(directory) / "probe"
        seconds = []
        with path.open("wb") as stream:
            for _ in range(_FSYNCS):
                begun = time.perf_counter()
                stream.write(os.urandom(_PROBE_BYTES))
                stream.flush()
                os.fsync(stream.fileno())
                seconds.append(time.perf_counter() - begun)
        if path.stat().st_size != _FSYNCS * _PROBE_BYTES:
            raise ValueError("a file is shorter than what was written to it")
        status = os.statvfs(directory)
    free = size(status.f_bavail * status.f_frsize)
    return f"1 MiB durable in {sorted(seconds)[_FSYNCS // 2] * 1000:.1f} ms, {free} free"


def _ports() -> str:
    from devnet.ports import choose_ports

    return f"free on 127.0.0.1, for instance {choose_ports(1, None)[0]}"


def _limits() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < MIN_OPEN_FILES:
        raise ValueError(f"{soft} open files allowed, expected {MIN_OPEN_FILES}: `ulimit -n {MIN_OPEN_FILES}`")
    return f"{soft} open files (at most {hard})"


def _clock() -> str:
    now, monotonic = time.time(), time.monotonic()
    if now < 1_735_689_600:  # 2025
        raise ValueError(f"the clock says {time.ctime(now)}: set it")
    if time.monotonic() < monotonic:
        raise ValueError("the monotonic clock ran backwards")
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))


CHECKS: dict[str, Callable[[], str]] = {
    "python": _python,
    "versions": _versions,
    "codec": _codec,
    "keys": _keys,
    "cid": _cid,
    "merkle": _merkle,
    "disk": _disk,
    "ports": _ports,
    "limits": _limits,
    "clock": _clock,
}


@command("selftest", examples=("mpisa selftest", "mpisa selftest --json"))
def selftest() -> None:
    """Check libraries, known answers, disk, ports and limits of this machine; needs no network."""
    results = []
    for name, check in CHECKS.items():
        try:
            results.append({"name": name, "ok": True, "detail": check()})
        except Exception as error:  # noqa: BLE001 - each check is a root of its own: report it, go on with the next
            results.append({"name": name, "ok": False, "detail": f"{type(error).__name__}: {error}"})
    failed = [str(result["name"]) for result in results if not result["ok"]]
    rows = [("ok" if result["ok"] else "FAILED", result["name"], result["detail"]) for result in results]
    emit({"ok": not failed, "checks": results}, lambda: table(rows, ("", "check", "found")))
    if failed:
        raise SelfTestFailed(f"failed: {', '.join(failed)}", hint="`make install` sets up a clean environment")
