"""The flags of vLLM that a user may pass on, and those that Baton decides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from worker.errors import BadSettings

OWNED: Mapping[str, str] = MappingProxyType(
    {
        "--model": "use the worker's own --model",
        "--kv-transfer-config": "Baton moves the KV itself",
        "--kv-events-config": "Baton publishes its own",
        "--worker-extension-cls": "Baton needs it",
        "--scheduler-cls": "Baton needs it",
        "--distributed-executor-backend": "Baton chooses it by the number of ranks",
        "--data-parallel-size": "one worker is one engine: start more workers",
        "--api-server-count": "a worker has no API server",
        "--config": "pass the flags themselves",
    }
)
SHORT: Mapping[str, str] = MappingProxyType(
    {"-dp": "--data-parallel-size", "-asc": "--api-server-count"}
)


def check_words(words: Iterable[str]) -> None:
    """Raises BadSettings for a flag that is not the user's to set."""
    for word in words:
        # "--kv-transfer-config.kv_role" sets a part of "--kv-transfer-config".
        flag = word.partition("=")[0].partition(".")[0].replace("_", "-")
        flag = SHORT.get(flag, flag)
        if flag in OWNED:
            raise BadSettings(f"--engine-args: {flag} cannot be set here: {OWNED[flag]}")
