"""Which of UCX's transports links may use, and what to tell the user about them: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

INSIDE_A_HOST = "self,sysv"
BETWEEN_HOSTS = "^cma"
_SHARED_MEMORY = {"sysv": "sysv", "posix": "posix", "sm": "sysv", "shm": "sysv", "mm": "sysv"}
_GPU = ("cuda_copy", "cuda_ipc", "gdr_copy")
_RDMA = ("rc", "dc", "ud", "srd", "gga", "efa")

# A message of more than 8 KiB waits in its sender's buffer for the receiver. With segments of
# 64 KiB UCX sends large messages over TCP without a copy of them, at less than half the CPU time.
_OURS = {"RNDV_THRESH": "8192", "TCP_TX_SEG_SIZE": "64k"}

ONLY_TCP = (
    "UCX has only TCP between hosts: KV will move at the speed of the kernel's network stack "
    "(a few GB/s at best, at the cost of CPU time on both sides), not of RDMA. UCX's wheels have "
    "no RDMA: install a UCX that is built with it (--with-verbs) beside rdma-core, set "
    "RAPIDS_LIBUCX_PREFER_SYSTEM_LIBRARY=true, give a container /dev/infiniband and unlimited "
    "locked memory (ulimit -l), and let UCX_TLS not exclude it."
)


def from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's own choice of what is decided here."""
    names = ("TLS", *_OURS)
    return {name: environment[f"UCX_{name}"] for name in names if f"UCX_{name}" in environment}


def between_hosts(settings: Mapping[str, str]) -> dict[str, str]:
    return {"TLS": BETWEEN_HOSTS, **_OURS, **settings}


def inside_a_host(settings: Mapping[str, str], available: Iterable[str]) -> dict[str, str] | None:
    """Shared memory and nothing else, but for what a GPU's memory needs; None if `settings`
    leave no shared memory.
    """
    asked = settings.get("TLS", "all")
    names = {name.strip() for name in asked.removeprefix("^").split(",")}
    if asked.startswith("^"):
        memories = {"sysv"} - {_SHARED_MEMORY.get(name) for name in names}
    elif "all" in names:
        memories = {"sysv"}
    else:
        memories = {_SHARED_MEMORY[name] for name in names if name in _SHARED_MEMORY}
    if not memories:
        return None
    gpu = [name for name in _GPU if name in available]
    tls = ",".join(["self", *sorted(memories), *gpu])
    of_networks = ("NET_", "TCP_")
    asked_for = {**_OURS, **settings, "TLS": tls}
    return {key: value for key, value in asked_for.items() if not key.startswith(of_networks)}


def transports_in(info: str) -> list[str]:
    """The transports that a UCX context's description names."""
    words = (word for line in info.splitlines() for word in line.split() if "/" in word)
    return sorted({word.partition("/")[0] for word in words} - {"cma"})


def warning_about(transports: Iterable[str]) -> str | None:
    """What is to be known of a machine with these, in clear words."""
    return None if any(name.startswith(_RDMA) for name in transports) else ONLY_TCP
