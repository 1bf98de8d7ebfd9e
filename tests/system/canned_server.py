"""vLLM's own API server over a canned engine.

    python -m tests.system.canned_server FLAG...

The flags are vLLM's. GET /making_seconds: what the canned outputs have cost in this process.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterable
from types import SimpleNamespace

from fastapi import FastAPI
from vllm.entrypoints.launchers import app as launcher
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest
from vllm.v1.engine.core_client import EngineCoreClient
from vllm.v1.serial_utils import MsgpackDecoder

from tests.system.canned import CannedEngine

FLAGS = (
    *("--enforce-eager", "--disable-uvicorn-access-log"),
    *("--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
)


class CannedCore:
    """Stands in for vLLM's EngineCoreClient; decodes what it gives, as that one does."""

    def __init__(self, engine: CannedEngine) -> None:
        self.engine_ranks_managed = [0]
        self.resources = SimpleNamespace(engine_dead=False)
        self._engine = engine
        self._decoder = MsgpackDecoder(EngineCoreOutputs)

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        return ("generate",)

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        self._engine.add(request)

    async def abort_requests_async(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            self._engine.remove(request_id)

    async def get_output_async(self) -> EngineCoreOutputs:
        return self._decoder.decode(await self._engine.next_step())

    async def reset_mm_cache_async(self) -> None:
        """There is none."""

    def shutdown(self, timeout: float | None = None) -> None:
        """There is nothing to end."""


def main() -> None:
    engine = CannedEngine()
    EngineCoreClient.make_async_mp_client = staticmethod(lambda **_: CannedCore(engine))
    build_app = launcher.build_app

    def build(*args: object, **kwargs: object) -> FastAPI:
        app: FastAPI = build_app(*args, **kwargs)
        app.add_api_route("/making_seconds", lambda: engine.making_seconds)
        return app

    launcher.build_app = build
    sys.argv[1:] = [*FLAGS, *sys.argv[1:]]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


if __name__ == "__main__":
    main()
