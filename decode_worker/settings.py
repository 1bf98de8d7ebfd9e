"""The settings of a decode worker."""

from __future__ import annotations

from pydantic import Field

from worker.settings import Name, WorkerSettings


class DecodeSettings(WorkerSettings):
    """Runs a decode worker: a vLLM engine that fetches a prompt's KV from a prefill worker,
    or computes it where there is none, and generates the answer.

    It joins the fleet when its engine is warm, and serves the fleet's gateways until SIGTERM.
    Flags go over environment variables (BATON_MODEL for --model, and so on), and those over
    the defaults. Example:

    python -m decode_worker --model ./SmolLM2-135M-Instruct --redis redis://127.0.0.1
    """

    worker_id: Name = Field(
        "decode-0", description="this worker's name in the fleet, kept over restarts"
    )
