"""Which node to talk to, and with which token.

Endpoint: argument > MPISA_ENDPOINT > home. Home: argument > MPISA_HOME > ~/.mpisa; a home with devnet.json means that
devnet's first node, one with config.toml means that node. Token: argument > MPISA_TOKEN > the home of the node that has
this endpoint > the runtime file that a running node drops for its own user. A token found in a file is only ever sent
to the endpoint that the file names.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from mpisa.primitives.errors import InvalidConfig, Unreachable, UsageError

ENDPOINT_VARIABLE: Final = "MPISA_ENDPOINT"
HOME_VARIABLE: Final = "MPISA_HOME"
TOKEN_VARIABLE: Final = "MPISA_TOKEN"  # noqa: S105 - the variable's name, not a token
RUNTIME_VARIABLE: Final = "MPISA_RUNTIME_DIR"
TOKEN_FILE: Final = "api.token"  # noqa: S105 - a file's name
SERVING_FILE: Final = "api.json"
MAX_FILE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """Where requests go. `endpoint` has no trailing slash; `token` is None when none was found."""

    endpoint: str
    token: str | None
    home: Path

    def __repr__(self) -> str:
        return f"Target(endpoint={self.endpoint!r}, token={'set' if self.token else None}, home={self.home})"


def choose_home(home: str | Path | None) -> Path:
    """The argument, else MPISA_HOME, else ~/.mpisa; absolute."""
    chosen = home or os.environ.get(HOME_VARIABLE) or Path.home() / ".mpisa"
    return Path(chosen).expanduser().absolute()


def choose_target(endpoint: str | None, token: str | None, home: str | Path | None) -> Target:
    """Resolve everything. Raises UsageError for a malformed URL and Unreachable when nothing names a node."""
    place = choose_home(home)
    url = endpoint or os.environ.get(ENDPOINT_VARIABLE)
    chosen = normalize_endpoint(url) if url else _endpoint_of_home(place)
    return Target(chosen, token or os.environ.get(TOKEN_VARIABLE) or _find_token(chosen, place), place)


def normalize_endpoint(url: str) -> str:
    """http(s)://host[:port] without a trailing slash; a bare host:port means http. Raises UsageError."""
    text = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(text)
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = None
    if not valid or parts.username or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise UsageError(
            f"endpoint: expected http://host:port, got {url[:100]!r}", hint="--endpoint http://127.0.0.1:8480"
        )
    return f"{parts.scheme}://{parts.netloc}".rstrip("/")


def runtime_directory() -> Path:
    """Where running nodes of this user say how to reach them: one 0600 file a node."""
    chosen = os.environ.get(RUNTIME_VARIABLE)
    if chosen:
        return Path(chosen)
    session = os.environ.get("XDG_RUNTIME_DIR")
    return Path(session) / "mpisa" if session else Path.home() / ".mpisa" / "run"


def runtime_file(endpoint: str) -> Path:
    """The runtime file of the node at an endpoint: <host>-<port>.json."""
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = (parts.hostname or "").replace(":", "_").replace("/", "_")
    return runtime_directory() / f"{host}-{port}.json"


def find_genesis_file(home: Path) -> Path | None:
    """A genesis document that this home already holds: its own, else that of one of its devnet's nodes."""
    candidates = [home / "genesis.json"]
    candidates += [
        Path(node["home"]) / "genesis.json" for node in _devnet_nodes(home) if isinstance(node.get("home"), str)
    ]
    return next((path for path in candidates if path.is_file()), None)


def read_json(path: Path) -> dict[str, Any] | None:
    """A small JSON object; None when there is no such file. Raises InvalidConfig for anything else."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidConfig(f"{path}: can't be read: {error.strerror}", hint="check its permissions") from None
    try:
        body = json.loads(data[:MAX_FILE_BYTES])
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{path}: not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidConfig(f"{path}: expected a JSON object, got {type(body).__name__}")
    return body


def _devnet_nodes(home: Path) -> list[dict[str, Any]]:
    body = read_json(home / "devnet.json")
    nodes = body.get("nodes") if body else None
    return [node for node in nodes if isinstance(node, dict)] if isinstance(nodes, list) else []


def _endpoint_of_home(home: Path) -> str:
    for node in _devnet_nodes(home):
        if isinstance(node.get("api"), str):
            return normalize_endpoint(node["api"])
    serving = read_json(home / SERVING_FILE)
    if serving and isinstance(serving.get("url"), str):
        return normalize_endpoint(serving["url"])
    configured = _configured_endpoint(home / "config.toml")
    if configured is not None:
        return configured
    raise Unreachable(
        f"no node is set up in {home}", hint="start four on this machine: `mpisa devnet up`, or give --endpoint"
    )


def _configured_endpoint(path: Path) -> str | None:
    import tomllib

    try:
        api = tomllib.loads(path.read_text(encoding="utf-8")).get("api", {})
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidConfig(f"{path}: {error}") from None
    port = api.get("port", 0) if isinstance(api, dict) else 0
    if not port:
        raise Unreachable(
            f"the node of {path.parent} isn't running", hint=f"start it: `mpisa node run --home {path.parent}`"
        )
    host = str(api.get("host", "127.0.0.1"))
    return normalize_endpoint(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


def _find_token(endpoint: str, home: Path) -> str | None:
    for node in _devnet_nodes(home):
        if isinstance(node.get("api"), str) and isinstance(node.get("home"), str) and _same(node["api"], endpoint):
            return _read_token(Path(node["home"]) / TOKEN_FILE)
    with contextlib.suppress(InvalidConfig, Unreachable, UsageError):
        if _endpoint_of_home(home) == endpoint:
            return _read_token(home / TOKEN_FILE)
    return _runtime_token(endpoint)


def _same(url: str, endpoint: str) -> bool:
    try:
        return normalize_endpoint(url) == endpoint
    except UsageError:
        return False


def _read_token(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"{path}: the token can't be read: {error}", hint="check its permissions") from None


def _runtime_token(endpoint: str) -> str | None:
    path = runtime_file(endpoint)
    try:
        status = path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return None
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        return None
    body = read_json(path)
    token = body.get("token") if body else None
    return token if body and _same(str(body.get("url", "")), endpoint) and isinstance(token, str) else None
