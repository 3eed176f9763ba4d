"""What a devnet keeps in its home.

    HOME/devnet.json      what others read: nodes, addresses, accounts (the documented contract)
    HOME/run.json         ours: format mark and the identity of each node's process
    HOME/devnet.lock      held (flock) while a command changes the devnet
    HOME/accounts/*.json  key files of the development accounts
    HOME/nodeN/           a node's own home

A directory is a devnet home only if run.json carries our format mark: nothing is ever deleted anywhere else.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from devnet.process import ProcessIdentity
from mpisa.primitives.errors import InvalidConfig, NotFound, StoreBusy

FORMAT = "mpisa-devnet/1"
MANIFEST, RUN, LOCK, ACCOUNTS = "devnet.json", "run.json", "devnet.lock", "accounts"


@dataclass(frozen=True, slots=True)
class DevnetNode:
    """One validator: `authority` is its index in the committee, `pid` that of its latest process."""

    name: str
    api: str
    peer_id: str
    pid: int | None
    authority: int
    home: Path


@dataclass(frozen=True, slots=True)
class DevnetAccount:
    """A funded development account and the file that holds its key."""

    name: str
    address: str
    key_file: Path


@dataclass(frozen=True, slots=True)
class Manifest:
    """The devnet as others see it: devnet.json."""

    chain_id: str
    home: Path
    nodes: tuple[DevnetNode, ...]
    accounts: tuple[DevnetAccount, ...]

    def to_json(self) -> dict[str, Any]:
        """The form of devnet.json."""
        return json.loads(json.dumps(asdict(self), default=str))  # type: ignore[no-any-return]

    def announcement(self) -> dict[str, Any]:
        """What `mpisa devnet up --json` prints: the documented fields and no more."""
        body = self.to_json()
        for node in body["nodes"]:
            del node["home"]
        return body


def write_json(path: Path, body: Mapping[str, Any]) -> None:
    """Replace a file in one step, durable."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w") as stream:
        json.dump(body, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        body = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidConfig(
            f"{path}: not valid JSON: {error}", hint=f"`mpisa devnet reset --home {path.parent}`"
        ) from None
    if not isinstance(body, dict):
        raise InvalidConfig(f"{path}: expected a JSON object, got {type(body).__name__}")
    return body


def is_devnet_home(home: Path) -> bool:
    """Whether this directory was made by `mpisa devnet up`."""
    try:
        body = _read_json(home / RUN)
    except InvalidConfig:
        return False
    return body is not None and body.get("format") == FORMAT


def read_manifest(home: Path) -> Manifest | None:
    """The devnet of this home; None when there is none or its making was interrupted."""
    body = _read_json(home / MANIFEST)
    if body is None:
        return None
    path = home / MANIFEST
    try:
        return Manifest(
            chain_id=body["chain_id"],
            home=Path(body["home"]),
            nodes=tuple(
                DevnetNode(n["name"], n["api"], n["peer_id"], n["pid"], n["authority"], Path(n["home"]))
                for n in body["nodes"]
            ),
            accounts=tuple(DevnetAccount(a["name"], a["address"], Path(a["key_file"])) for a in body["accounts"]),
        )
    except (KeyError, TypeError) as error:
        raise InvalidConfig(f"{path}: missing or mistyped: {error}") from None


def require_manifest(home: Path) -> Manifest:
    """The devnet of this home; raises NotFound."""
    manifest = read_manifest(home)
    if manifest is None:
        raise NotFound(f"no devnet in {home}", hint=f"start one: `mpisa devnet up --home {home}`")
    return manifest


def read_processes(home: Path) -> dict[str, ProcessIdentity]:
    """The last known process of each node, by name; some may be gone."""
    body = _read_json(home / RUN) or {}
    return {name: ProcessIdentity(**fields) for name, fields in body.get("processes", {}).items()}


def write_processes(home: Path, processes: Mapping[str, ProcessIdentity]) -> None:
    """Record which process is which node; also marks the directory as a devnet home."""
    body = {"format": FORMAT, "processes": {name: asdict(identity) for name, identity in processes.items()}}
    write_json(home / RUN, body)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold the home's lock; raises StoreBusy when another command is changing this devnet."""
    descriptor = os.open(home / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(
                f"another command is starting or stopping the devnet in {home}", hint="wait for it, then try again"
            ) from None
        yield
    finally:
        os.close(descriptor)
