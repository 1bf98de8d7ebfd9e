"""One gateway in several processes: what they share, and how they come to be.

The parent listens and imports vLLM; then it forks. So all processes accept from one queue, where
whoever is free takes the next connection and none is lost when a process dies, and they share
the memory of what was imported, and start in a moment.
"""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from contextlib import closing

import uvloop

from gateway.exit_code import exit_code
from gateway.http_server import FLUSH_SECONDS, bind
from gateway.logs import name_process
from gateway.metrics_folder import metrics_folder
from gateway.process_keeper import ProcessKeeper, tell_parent
from gateway.settings import Settings

# Beyond the drain: for what is closed after it.
CLOSE_SECONDS = 3


def serve_in_processes(settings: Settings) -> int:
    """Serves until SIGTERM or SIGINT; the exit code. Raises GatewayError or FleetError."""
    with metrics_folder() as folder:
        # Not before: prometheus_client reads this when it is imported.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
        from gateway.main import check
        from gateway.shared_metrics import bury

        with closing(bind(settings.host, settings.port)) as sock:
            asyncio.run(check(settings))
            import_all()

            def serve(number: int) -> int:
                name_process(number)
                (folder / f"{number}.pid").write_text(str(os.getpid()))
                return exit_code(lambda: serve_one(settings, sock))

            grace_seconds = settings.shutdown_seconds + FLUSH_SECONDS + CLOSE_SECONDS
            keeper = ProcessKeeper(
                settings.processes,
                serve,
                lambda pid: bury(folder, pid),
                sock.close,
                grace_seconds,
            )
            return keeper.run()


def import_all() -> None:
    """Before the fork, and without starting a thread."""
    import gateway.front_half  # noqa: F401

    gc.collect()
    # What is here stays: collections would write to every page of it.
    gc.freeze()


def serve_one(settings: Settings, sock: socket.socket) -> int:
    from gateway.main import run

    uvloop.run(run(settings, sock, on_serving=tell_parent))
    return 0
