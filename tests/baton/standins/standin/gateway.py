"""Stands in for the gateway: answers /health and /fleet/workers, and no client."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standin.behaviour import behave
from standin.fleet_state import FleetState

LOAD = {
    "num_running": 2,
    "num_waiting": 1,
    "num_kv_blocks": 400,
    "num_kv_blocks_used": 12,
    "transfers": {"sent_bytes": 45_200_000, "received_bytes": 0, "open_sends": 3},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in (
        "model",
        "served-model-name",
        "fleet",
        "host",
        "port",
        "dtype",
        "dispatch",
        "processes",
        "routing",
        "disaggregation",
        "ttft-goal-seconds",
        "itl-goal-seconds",
        "control-share",
    ):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--expect-prefill", type=int, required=True)
    parser.add_argument("--expect-decode", type=int, required=True)
    parser.add_argument("--max-model-len")
    parser.add_argument("--engine-args")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    behave("gateway")
    state = FleetState(os.environ["BATON_REDIS"], given.fleet)
    expected = given.expect_prefill + given.expect_decode

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            is_complete = state.num_members() >= expected
            names = ("prefill-0", "decode-0") if is_complete else ()
            body = json.dumps({"workers": [{"worker_id": name, "load": LOAD} for name in names]})
            self.send_response(200 if is_complete or self.path != "/health" else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *words: object) -> None:
            """The log is for errors."""

    HTTPServer((given.host, int(given.port)), Handler).serve_forever()
