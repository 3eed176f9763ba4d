"""What bounds consensus on this machine: signature checks with the pinned verifier on all cores, and fsyncs a second.

Both are measured for a short while in the run that they are compared with. A check counts as consensus counts it: with
the tests for canonical encodings around it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 2.0
RECORD_BYTES = 4096
_MESSAGE_BYTES = 80
_PROGRAM = "import sys; from mpisa.cli.bench.limits import main; main(sys.argv[1])"


def count_verifications(seconds: float) -> float:
    """Ed25519 checks a second in this process."""
    from mpisa.primitives import ed25519

    seed = bytes(32)
    key, sign = ed25519.public_key(seed), ed25519.signer(seed)
    messages = [number.to_bytes(_MESSAGE_BYTES, "big") for number in range(500)]
    signed = [(message, sign(message)) for message in messages]
    done, begun = 0, time.perf_counter()
    while (now := time.perf_counter()) - begun < seconds:
        for message, signature in signed:
            assert ed25519.verify(key, message, signature)
        done += len(signed)
    return done / (now - begun)


def main(seconds: str) -> None:
    """Entry of one core's process."""
    print(count_verifications(float(seconds)))


def verifications(seconds: float = SECONDS) -> float:
    """Ed25519 checks a second on all cores at once: one process a core."""
    cores = len(os.sched_getaffinity(0))
    processes = [
        subprocess.Popen([sys.executable, "-c", _PROGRAM, str(seconds)], stdout=subprocess.PIPE, text=True)
        for _ in range(cores)
    ]
    return sum(float(process.communicate()[0]) for process in processes)


def fsyncs(directory: Path, seconds: float = SECONDS) -> float:
    """Records of RECORD_BYTES appended and fsynced a second, one after the other."""
    path = directory / "fsyncs"
    block = os.urandom(RECORD_BYTES)
    done, begun = 0, time.perf_counter()
    with path.open("wb", buffering=0) as stream:
        while (now := time.perf_counter()) - begun < seconds:
            stream.write(block)
            os.fsync(stream.fileno())
            done += 1
    path.unlink()
    return done / (now - begun)
