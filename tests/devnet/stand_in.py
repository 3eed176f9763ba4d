"""A devnet whose nodes only answer /readyz: run as `python stand_in.py HOME up|down|reset [MODE]`, prints JSON.

The processes, signals, files and forks are the real ones; only what a node does is left out. MODE changes node2:
`dies` ends it at once with a message, `deaf` never becomes ready, `stubborn` ignores SIGTERM.
"""

import http.server
import json
import signal
import sys
from pathlib import Path

from devnet import cluster
from devnet.plan import Plan
from mpisa.config import read_config
from mpisa.primitives.errors import MpisaError


class _Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"ready": true, "reasons": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        return


def serve(home: Path) -> None:
    mode = sys.argv[3] if len(sys.argv) > 3 and home.name == "node2" else ""
    if mode == "dies":
        raise RuntimeError("the store of node2 is damaged")
    if mode == "deaf":
        signal.pause()
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    config = read_config(home / "config.toml")
    http.server.HTTPServer((config.api.host, config.api.port), _Ready).serve_forever()


def main() -> None:
    home, action = Path(sys.argv[1]), sys.argv[2]
    try:
        if action == "up":
            outcome = cluster.up(home, Plan(), lambda: serve, lambda _line: None, timeout_s=3)
            answer = {"manifest": outcome.manifest.to_json(), "started": outcome.started, "running": outcome.running}
        elif action == "down":
            stopped = cluster.down(home, grace_s=1)
            answer = {"ended": stopped.ended, "killed": stopped.killed, "already_down": stopped.already_down}
        else:
            answer = {"emptied": cluster.reset(home, grace_s=1)[1]}
    except MpisaError as error:
        answer = {"error": error.message, "hint": error.hint, "code": error.code}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
