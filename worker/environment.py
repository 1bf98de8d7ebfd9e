"""The environment variables that vLLM reads when it is imported, or soon after."""

from __future__ import annotations

from collections.abc import Mapping

DEFAULT_KV_CACHE_GIB = 1


def engine_environment(
    present: Mapping[str, str], num_cores: int, kv_cache_gib: int | None
) -> dict[str, str]:
    """What to add to `present`: only what is unset there, and the size of the KV cache if
    it was asked for.
    """
    defaults = {
        # Block hashes must agree between processes.
        "PYTHONHASHSEED": "0",
        "VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES": "0",
        # The model is a folder: nothing is to be asked of a hub.
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        # This process is bound from outside, all its threads alike.
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(num_cores),
        "VLLM_CPU_KVCACHE_SPACE": str(kv_cache_gib or DEFAULT_KV_CACHE_GIB),
        # Python's clean-up after a killed engine is no news, least of all after our last line.
        "PYTHONWARNINGS": "ignore:resource_tracker:UserWarning",
        # An engine that is killed anyway need not be waited for.
        "VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS": "2",
    }
    added = {name: value for name, value in defaults.items() if name not in present}
    if kv_cache_gib is not None:
        added["VLLM_CPU_KVCACHE_SPACE"] = str(kv_cache_gib)
    return added


# So that torch's process groups, too, listen where only this machine reaches them.
LOCAL_ENVIRONMENT = {"GLOO_SOCKET_IFNAME": "lo", "VLLM_HOST_IP": "127.0.0.1"}


def nixl_environment(host: str, port: int) -> dict[str, str]:
    """Where this worker's NIXL agents are asked for; the host is one of this machine's own."""
    return {"VLLM_NIXL_SIDE_CHANNEL_HOST": host, "VLLM_NIXL_SIDE_CHANNEL_PORT": str(port)}


def bind_ranks(cores: list[int], num_ranks: int) -> str:
    """VLLM_CPU_OMP_THREADS_BIND for several ranks on a CPU: equal shares, "0,1|2,3".

    With fewer cores than ranks, ranks share them.
    """
    each = max(1, len(cores) // num_ranks)
    shares = (cores[i * each % len(cores) :][:each] for i in range(num_ranks))
    return "|".join(",".join(map(str, share)) for share in shares)
