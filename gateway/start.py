"""How `python -m gateway` starts: in one process, or in several that share the port."""

from __future__ import annotations

import os
import signal
import sys

import uvloop

from gateway.exit_code import exit_code
from gateway.logs import configure_logs
from gateway.model_folder import is_folder
from gateway.settings import Settings, read_settings


def main(words: list[str] | None = None) -> int:
    """Runs the gateway; the exit code. The last line on stderr says what went wrong."""
    # Until the event loop takes over, SIGTERM still means a clean end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    configure_logs()
    return exit_code(lambda: start(sys.argv[1:] if words is None else words))


def start(words: list[str]) -> int:
    """Raises GatewayError or FleetError."""
    settings = read_settings(words)
    prepare_environment(settings)
    if settings.processes > 1:
        from gateway.process_group import serve_in_processes

        return serve_in_processes(settings)
    # Not before: how metrics are kept is settled when prometheus_client is imported.
    from gateway.main import run

    uvloop.run(run(settings))
    return 0


def prepare_environment(settings: Settings) -> None:
    """What vLLM reads when it is imported; what is set already stays."""
    defaults = {
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_LOGGING_STREAM": "ext://sys.stderr",
        "VLLM_NO_USAGE_STATS": "1",
        "OMP_NUM_THREADS": "1",
        # Block hashes must agree with the engines'.
        "PYTHONHASHSEED": "0",
    }
    if is_folder(settings.model):
        defaults["HF_HUB_OFFLINE"] = "1"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    # vLLM would open its development routes.
    os.environ["VLLM_SERVER_DEV_MODE"] = "0"
