"""The files by which a running server is found: its token, and who serves at which URL.

HOME/api.token                0600, made once: opens what writes
HOME/api.json                 0600, while it runs: {url, pid, peer_id}
RUNTIME/<host>-<port>.json    0600, while it runs: {url, token, pid, peer_id}, for this user's own programs
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from mpisa.primitives.errors import InvalidConfig
from mpisa.sdk.endpoint import SERVING_FILE, TOKEN_FILE, runtime_file

TOKEN_BYTES: Final = 32
MIN_TOKEN_CHARACTERS: Final = 16
MAX_TOKEN_CHARACTERS: Final = 512


def read_or_make_token(home: Path) -> str:
    """The node's token. Raises InvalidConfig for one that others can read, or that isn't one."""
    path = home / TOKEN_FILE
    with contextlib.suppress(FileExistsError):
        _write_new(path, secrets.token_urlsafe(TOKEN_BYTES).encode() + b"\n")
    try:
        with path.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(MAX_TOKEN_CHARACTERS + 1)
    except OSError as error:
        raise InvalidConfig(f"{path}: can't be read: {error.strerror}", hint="check who owns it: `ls -l`") from None
    if stat.S_IMODE(mode) & 0o077:
        raise InvalidConfig(f"{path}: others can read it (mode {stat.S_IMODE(mode):o})", hint=f"chmod 600 {path}")
    try:
        token = data.decode("ascii").strip()
    except UnicodeDecodeError:
        token = ""
    if not MIN_TOKEN_CHARACTERS <= len(token) <= MAX_TOKEN_CHARACTERS or not token.isprintable() or " " in token:
        raise InvalidConfig(
            f"{path}: expected {MIN_TOKEN_CHARACTERS} to {MAX_TOKEN_CHARACTERS} printable characters",
            hint=f"rm {path}; the node makes a new one when it starts",
        )
    return token


class Announcement:
    """The two files that say where a server is, written when it listens and removed when it stops."""

    def __init__(self, home: Path, url: str, token: str, peer_id: str) -> None:
        public = {"url": url, "pid": os.getpid(), "peer_id": peer_id}
        self._files = {home / SERVING_FILE: public, runtime_file(url): {**public, "token": token}}

    def publish(self) -> None:
        """Write them, replacing what a server before left behind."""
        for path, body in self._files.items():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}.{os.getpid()}")
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            _write_new(temporary, json.dumps(body).encode() + b"\n")
            temporary.replace(path)

    def withdraw(self) -> None:
        """Remove them, unless another process has written its own by now."""
        for path in self._files:
            try:
                owner = json.loads(path.read_bytes()).get("pid")
            except (OSError, ValueError, AttributeError):
                continue
            if owner == os.getpid():
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()


def _write_new(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
