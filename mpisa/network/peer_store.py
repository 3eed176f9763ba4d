"""Peers met before, on disk: JSON, written whole to a new file and renamed, at most `max_stored_peers`, the longest
unseen forgotten.

A hint for the next start, no more: a missing, damaged or foreign file is an empty store, and is said so.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path

from mpisa.network.peer_id import parse_peer_id
from mpisa.network.ports import PeerAddress, PeerId
from mpisa.primitives.errors import Rejection

MAX_FILE_BYTES = 4 << 20
MAX_ADDRESSES = 8
FORMAT = 1


class PeerStore:
    """Addresses by peer id, the most recently seen last. `path` None keeps them in memory. `damage` says why loading
    found nothing.
    """

    def __init__(self, path: Path | None, max_peers: int) -> None:
        self._path = path
        self._max_peers = max_peers
        self._peers: OrderedDict[PeerId, PeerAddress] = OrderedDict()
        self._dirty = False
        self.damage: str | None = None
        if path is not None and path.exists():
            self._load(path)

    def __len__(self) -> int:
        return len(self._peers)

    def addresses(self) -> list[PeerAddress]:
        """All peers, the most recently seen first."""
        return list(reversed(self._peers.values()))

    def get(self, peer: PeerId) -> PeerAddress | None:
        return self._peers.get(peer)

    def remember(self, address: PeerAddress) -> None:
        known = self._peers.get(address.peer_id)
        if known != address:
            self._dirty = True
        self._peers[address.peer_id] = address
        self._peers.move_to_end(address.peer_id)
        if len(self._peers) > self._max_peers:
            self._peers.popitem(last=False)

    def forget(self, peer: PeerId) -> None:
        self._dirty = self._peers.pop(peer, None) is not None or self._dirty

    def save(self) -> None:
        """Writes what changed. Raises OSError when the disk refuses; the old file is whole then."""
        if self._path is None or not self._dirty:
            return
        peers = [
            {"peer_id": peer.peer_id, "multiaddrs": list(peer.multiaddrs), "peer_url": peer.peer_url}
            for peer in self._peers.values()
        ]
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"format": FORMAT, "peers": peers}))
        fresh.replace(self._path)
        self._dirty = False

    def _load(self, path: Path) -> None:
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
            document = json.loads(path.read_text())
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}")
            for entry in document["peers"][-self._max_peers :]:
                self._peers[PeerId(entry["peer_id"])] = _decode(entry)
        except (OSError, ValueError, KeyError, TypeError, RecursionError, Rejection) as error:
            self._peers.clear()
            self.damage = f"{path}: {error}"


def _decode(entry: dict[str, object]) -> PeerAddress:
    multiaddrs, url = entry["multiaddrs"], entry["peer_url"]
    if not isinstance(multiaddrs, list) or not all(isinstance(text, str) for text in multiaddrs):
        raise ValueError("multiaddrs, expected a list of strings")
    if url is not None and not isinstance(url, str):
        raise ValueError("peer_url, expected a string")
    return PeerAddress(parse_peer_id(str(entry["peer_id"])), tuple(multiaddrs[:MAX_ADDRESSES]), url)
