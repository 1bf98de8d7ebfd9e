"""The environment of the processes that `baton up` starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# What must be the same in all processes, or what Baton decides.
FIXED = {
    # Prefix hashes must agree between processes.
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    # The model is a folder by now: no process asks a hub for anything.
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}

# What a user may set otherwise.
DEFAULTS = {
    # Workers are bound to their cores from outside, all threads alike.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "TOKENIZERS_PARALLELISM": "false",
}

# Settings of `baton up` that mean something else, or nothing, to a single process.
NOT_INHERITED = (
    "BATON_HOST",
    "BATON_PORT",
    "BATON_CONFIG",
    "BATON_ENGINE_ARGS",
    "BATON_OFFLOAD_GIB",
    "BATON_OFFLOAD_FOLDER",
    "BATON_OFFLOAD_FOLDER_GIB",
)


@dataclass(frozen=True, slots=True)
class Access:
    """What makes a process a member of the fleet."""

    redis: str
    fleet_key_file: Path


def worker_environment(
    base: Mapping[str, str],
    access: Access,
    cores: Sequence[int],
    kv_cache_gib: int,
    gpus: Sequence[str],
) -> dict[str, str]:
    """`base` is the user's own environment."""
    own = {
        "OMP_NUM_THREADS": str(len(cores)),
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib),
    }
    if gpus:
        own["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
    return member_environment(base, access) | own


def gateway_environment(base: Mapping[str, str], access: Access) -> dict[str, str]:
    """It computes nothing, so it needs no threads for that."""
    return member_environment(base, access) | {"OMP_NUM_THREADS": "1"}


def member_environment(base: Mapping[str, str], access: Access) -> dict[str, str]:
    # Here and not on the command line, which everyone on the machine can read: the URL may
    # hold a password.
    own = {"BATON_REDIS": access.redis, "BATON_FLEET_KEY_FILE": str(access.fleet_key_file)}
    return process_environment(base) | own


def process_environment(base: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in base.items() if name not in NOT_INHERITED}
    return DEFAULTS | inherited | FIXED
