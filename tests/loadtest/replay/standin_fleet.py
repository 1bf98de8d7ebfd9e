"""Stands in for `baton up --sim`: a fleet that says where it is, and how it was stopped."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

from tests.loadtest.replay.sse_server import SseServer, serving


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--words", type=Path)
    parser.add_argument("--fails", action="store_true")
    parser.add_argument("--hangs", action="store_true")
    options = parser.parse_args()
    if options.fails:
        sys.stderr.write("starting\nerror: no such model\n")
        return 1
    # Blocked before it says where it is, so that no signal comes in between.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    with serving(SseServer()) as server:
        if not options.hangs:
            options.state_dir.mkdir()
            state = {"url": server.url, "processes": []}
            (options.state_dir / "state.json").write_text(json.dumps(state))
        signal.sigwait({signal.SIGINT})
    options.words.write_text("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
