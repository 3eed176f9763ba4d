"""A Kubo node in a process of its own: `python kubo_child.py LIBRARY REPO`, asked by lines of JSON.

The library is Kubo's own code (a Go runtime, which must never be loaded into a process of ours). The node listens on
loopback alone, knows no bootstrap peers, and looks for nobody. The first line out says who it is; each line in is
`[command, argument...]`, answered by one line of JSON. It needs nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any


class Kubo:
    """The node; each method is a command."""

    def __init__(self, library: str, repo: Path) -> None:
        self._library = ctypes.CDLL(library)
        self._repo = str(repo).encode()
        path = repo / "config"
        if not path.exists():
            self._number("CreateRepo")
            config = json.loads(path.read_text())
            config["Bootstrap"] = []
            config["Discovery"]["MDNS"]["Enabled"] = False
            config["Addresses"] |= {"Swarm": ["/ip4/127.0.0.1/tcp/0"], "API": [], "Gateway": []}
            config["Swarm"] |= {"DisableNatPortMap": True, "RelayClient": {"Enabled": False}}
            path.write_text(json.dumps(config))
        self._datastore = json.loads(path.read_text())["Datastore"]["Spec"]
        if self._number("RunNode") != 1:
            raise SystemExit("Kubo doesn't start")

    def hello(self) -> dict[str, Any]:
        """Who it is, where it listens, and whether what it adds is synced to the disk."""
        return {
            "id": self._text("GetNodeID"),
            "addresses": json.loads(self._text("GetNodeMultiAddrs")),
            "synced": [mount["child"].get("sync") for mount in self._datastore["mounts"] if mount["mountpoint"] != "/"]
            == [True],
        }

    def add(self, path: str) -> str:
        """The CID of a file or directory, in Kubo's default profile."""
        return self._text("AddFile", path.encode(), False)

    def get(self, cid: str, path: str, seconds: float) -> bool:
        """Downloads a file or directory; False when it isn't here after so long."""
        codes: list[int] = []
        thread = threading.Thread(
            target=lambda: codes.append(self._number("Download", cid.encode(), path.encode())), daemon=True
        )
        thread.start()
        thread.join(seconds)
        return codes == [0]

    def pin(self, cid: str) -> bool:
        """Fetches all of a DAG and keeps it."""
        return self._number("PinCID", cid.encode()) == 0

    def connect(self, address: str) -> bool:
        """Dials a peer."""
        return self._number("ConnectToPeer", address.encode()) == 0

    def peers(self) -> list[str]:
        """The peers that it is connected to."""
        found: list[str] = json.loads(self._text("ListPeersIDs"))
        return found

    def timed(self, name: str, *arguments: Any) -> dict[str, Any]:
        """Another command's answer, and the seconds that it took in here."""
        begun = time.perf_counter()
        answer = getattr(self, name)(*arguments)
        return {"answer": answer, "seconds": time.perf_counter() - begun}

    def _number(self, name: str, *arguments: Any) -> int:
        return int(getattr(self._library, name)(self._repo, *arguments))

    def _text(self, name: str, *arguments: Any) -> str:
        function = getattr(self._library, name)
        function.restype = ctypes.c_void_p
        found = function(self._repo, *arguments)
        return ctypes.string_at(found).decode() if found else ""


def main() -> None:
    """Serve the lines of stdin."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # the library prints
    library, repo = sys.argv[1], Path(sys.argv[2])
    repo.mkdir(exist_ok=True)
    os.chdir(repo)  # and writes a log
    kubo = Kubo(library, repo)
    print(json.dumps(kubo.hello()), file=out, flush=True)
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        print(json.dumps(getattr(kubo, name)(*arguments)), file=out, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
