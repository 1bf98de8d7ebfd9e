"""What a streamed chat chunk costs the gateway, beside vLLM's own API server.

    python -m tests.system.chunk_cost

Both serve the same made-up tokens at the same pace to the same client, by turns, on a core
that the client leaves alone. In either, vLLM's front half renders, detokenizes and formats.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from baton.fleet_key import write_key
from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from fleet.valkey import ValkeyServer
from tests.system.processes import environment
from tests.system.prompts import MAX_MODEL_LEN
from tests.system.root import LAUNCH, ROOT
from tests.system.waiting import wait_until

START_SECONDS = 120.0
NUM_STREAMS = 64
NUM_TOKENS = 250
ROUNDS = 5
BODIES: Mapping[str, Mapping[str, object]] = {
    "chat/completions": {"messages": [{"role": "user", "content": "Hello there"}]},
    "completions": {"prompt": "Hello there"},
}


@dataclass(frozen=True, slots=True)
class Server:
    """A process that serves HTTP; `makes_tokens`: that it also makes the tokens it serves."""

    pid: int
    port: int
    makes_tokens: bool

    def cpu_seconds(self) -> float:
        """What it has used, less what the making of tokens has cost."""
        times = psutil.Process(self.pid).cpu_times()
        making = float(get(self.port, "/making_seconds")) if self.makes_tokens else 0.0
        return float(times.user + times.system) - making

    def microseconds_per_chunk(self, route: str) -> float:
        before = self.cpu_seconds()
        num_chunks = asyncio.run(stream_all(self.port, route))
        return (self.cpu_seconds() - before) / num_chunks * 1e6


def main() -> None:
    model = ensure_model(DEFAULT_MODEL, models_dir(os.environ), print_line)
    first, *others = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, others or {first})
    print_line(f"µs of CPU a chunk: {NUM_STREAMS} streams, least of {ROUNDS} rounds")
    with (
        plain_server(model, first) as plain,
        gateway(model, first, (others or [first])[0]) as ours,
    ):
        costs = {route: least_costs(route, plain, ours) for route in BODIES}
    print_line(f"{'route':<18}{'vLLM':>8}{'gateway':>9}{'more':>7}")
    for route, (plain_cost, our_cost) in costs.items():
        more = our_cost - plain_cost
        print_line(f"{route:<18}{plain_cost:>8.1f}{our_cost:>9.1f}{more:>7.1f}")


def least_costs(route: str, *servers: Server) -> list[float]:
    """Of each server. By turns, so that what else the machine does strikes all alike."""
    for server in servers:
        server.microseconds_per_chunk(route)
    rounds = [[each.microseconds_per_chunk(route) for each in servers] for _ in range(ROUNDS)]
    return [min(costs) for costs in zip(*rounds, strict=True)]


@contextmanager
def plain_server(model: Path, core: int) -> Iterator[Server]:
    port = free_port()
    words = ["tests.system.canned_server", "--model", str(model), "--served-model-name", "m"]
    words += ["--port", str(port), "--host", "127.0.0.1", "--max-model-len", str(MAX_MODEL_LEN)]
    with program(core, *words) as pid:
        wait_until(lambda: answers(port), START_SECONDS)
        yield Server(pid, port, makes_tokens=True)


@contextmanager
def gateway(model: Path, core: int, other_core: int) -> Iterator[Server]:
    port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        valkey = ValkeyServer(folder / "valkey.sock")
        stack.enter_context(process(other_core, *valkey.command()))
        wait_until(valkey.socket.exists, START_SECONDS)
        stack.enter_context(program(other_core, "tests.system.canned_worker", valkey.url))
        words = ["gateway", "--model", str(model), "--served-model-name", "m"]
        words += ["--disaggregation", "always"]
        words += ["--redis", valkey.url, "--port", str(port)]
        write_key(folder / "fleet.key")
        words += ["--fleet-key-file", str(folder / "fleet.key")]
        words += ["--expect-prefill", "0", "--expect-decode", "1"]
        pid = stack.enter_context(program(core, *words))
        wait_until(lambda: answers(port), START_SECONDS)
        yield Server(pid, port, makes_tokens=False)


@contextmanager
def program(core: int, module: str, *words: str) -> Iterator[int]:
    with process(core, sys.executable, "-m", module, *words) as pid:
        yield pid


@contextmanager
def process(core: int, *command: str) -> Iterator[int]:
    """Its pid. It runs on one core, as quietly as it can, and ends with the block."""
    quiet = {"VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, str(LAUNCH), str(os.getpid()), str(core)]
    running = subprocess.Popen(
        [*launch, *command],
        cwd=ROOT,
        env=environment(secrets.token_hex(8), quiet),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield running.pid
    finally:
        running.kill()
        running.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def answers(port: int) -> bool:
    try:
        return bool(get(port, "/v1/models"))
    except OSError:
        return False


def get(port: int, path: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=5.0) as answer:
        return str(answer.read().decode())


async def stream_all(port: int, route: str) -> int:
    """How many chunks came on all streams together."""
    chunks = await asyncio.gather(*(stream(port, route) for _ in range(NUM_STREAMS)))
    return sum(chunks)


async def stream(port: int, route: str) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    options = {"model": "m", "stream": True, "max_tokens": NUM_TOKENS, "ignore_eos": True}
    body = json.dumps({**BODIES[route], **options})
    head = (
        f"POST /v1/{route} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    writer.write((head + body).encode())
    num_chunks = 0
    while received := await reader.read(1 << 16):
        num_chunks += received.count(b"data: {")
    writer.close()
    return num_chunks


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
