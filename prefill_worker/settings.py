"""The settings of a prefill worker."""

from __future__ import annotations

from pydantic import Field

from worker.settings import Name, WorkerSettings


class PrefillSettings(WorkerSettings):
    """Runs a prefill worker: a vLLM engine that computes prompts and streams their KV, layer
    by layer, to the decode worker that asks for it.

    It joins the fleet when its engine is warm, and serves the fleet's gateways until SIGTERM.
    Flags go over environment variables (BATON_MODEL for --model, and so on), and those over
    the defaults. Example:

    python -m prefill_worker --model ./SmolLM2-135M-Instruct --redis redis://127.0.0.1
    """

    worker_id: Name = Field(
        "prefill-0", description="this worker's name in the fleet, kept over restarts"
    )
