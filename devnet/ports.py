"""Free ports on 127.0.0.1, below the range that the kernel hands to outgoing connections.

A node that is restarted must get its port back; a port of the ephemeral range could meanwhile be the local end of
somebody's connection.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

from mpisa.primitives.errors import InvalidConfig

HOST = "127.0.0.1"
_LOWEST = 10_240
_EPHEMERAL_FILE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS_PER_PORT = 200


def _highest() -> int:
    """The last port below the ephemeral range (32767 on a stock kernel); the whole range when it leaves no room."""
    try:
        first = int(_EPHEMERAL_FILE.read_text().split()[0])
    except (OSError, ValueError):
        return 32_767
    return first - 1 if first - _LOWEST > 1_000 else 65_535


def is_free(port: int) -> bool:
    """Whether a listener can bind to the port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def choose_ports(count: int, base: int | None) -> tuple[int, ...]:
    """`count` distinct free ports: base, base+1, ... when a base is asked for, else random ones.

    Raises InvalidConfig when an asked-for port is taken or out of range.
    """
    if base is not None:
        if not 1 <= base <= 65_536 - count:
            raise InvalidConfig(f"--base-port {base}: {count} ports from there do not fit below 65536")
        taken = [port for port in range(base, base + count) if not is_free(port)]
        if taken:
            ports = ", ".join(map(str, taken))
            raise InvalidConfig(f"ports in use: {ports}", hint="choose another --base-port, or leave it out")
        return tuple(range(base, base + count))
    highest = _highest()
    chosen: list[int] = []
    for _ in range(count * _ATTEMPTS_PER_PORT):
        port = random.randint(_LOWEST, highest)  # noqa: S311 - no secret: a place to listen
        if port not in chosen and is_free(port):
            chosen.append(port)
            if len(chosen) == count:
                return tuple(chosen)
    raise InvalidConfig(f"found no {count} free ports between {_LOWEST} and {highest}", hint="use --base-port")
