"""vLLM's own API servers with its own NixlConnector, at both ends of a link.

The KV is pulled when the prefill has ended, as vLLM's documentation has it.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from typing import Any

from loadtest.endpoint import Endpoint
from loadtest.hand_off import NUM_TOKENS, TOKEN_IDS
from tests.suites.network import Link, Namespace
from tests.suites.part import Part, Recipe
from tests.suites.sample import Sample
from tests.suites.split_fleet import MODEL_NAME, START_SECONDS, VARIABLES
from tests.system.processes import environment
from tests.system.waiting import wait_until

PORT = 8100
SIDE_CHANNEL_PORT = 5600
PATIENCE_SECONDS = 120.0
TRANSFER = {
    "kv_connector": "NixlConnector",
    "kv_role": "kv_both",
    "kv_buffer_device": "cpu",
    # With more progress threads than cores a transfer takes tens of seconds.
    "kv_connector_extra_config": {"num_threads": 1},
}
# Chunks and compilation as our workers have them.
FLAGS = (
    *("--enforce-eager", "--max-num-batched-tokens", "512"),
    *("--served-model-name", MODEL_NAME, "--port", str(PORT)),
    *("--kv-transfer-config", json.dumps(TRANSFER)),
)
REMOTE_DECODE = {
    "do_remote_decode": True,
    "do_remote_prefill": False,
    "remote_engine_id": None,
    "remote_block_ids": None,
    "remote_host": None,
    "remote_port": None,
}


class NixlPair:
    """To be used by a thread that has entered the near namespace, and closed by its owner."""

    def __init__(self, folder: Path, model: Path, link: Link, dtype: str, overlay: str) -> None:
        """`overlay` is a folder that holds the nixl package; empty if it is installed."""
        folder.mkdir(parents=True, exist_ok=True)
        self._model, self._dtype, self._overlay = model, dtype, overlay
        cores = sorted(os.sched_getaffinity(0))
        places = ((link.far, cores[0]), (link.near, cores[-1]))
        self._prefill, self._decode = (f"http://{place.address}:{PORT}" for place, _ in places)
        self._parts = [Part(self._recipe(folder, place, core)) for place, core in places]

    def wait(self) -> None:
        """Until both serve."""
        wait_until(self._is_up, START_SECONDS, self.tails)

    def measure(self, num_tokens: int) -> Sample:
        """A prompt that nobody has seen. Its prefill is the first server's whole answer.

        Raises BadAnswer or OSError.
        """
        body = {
            "model": MODEL_NAME,
            "prompt": random.SystemRandom().choices(TOKEN_IDS, k=num_tokens),
            "temperature": 0,
            "ignore_eos": True,
        }
        started_at = time.perf_counter()
        first = {**body, "max_tokens": 1, "kv_transfer_params": REMOTE_DECODE}
        params = post(self._prefill, first)["kv_transfer_params"]
        prefill_seconds = time.perf_counter() - started_at
        second = {**body, "max_tokens": NUM_TOKENS, "kv_transfer_params": params}
        stream = Endpoint(self._decode).stream(second)
        first_token_seconds = prefill_seconds + stream.first_seconds
        return Sample(prefill_seconds, first_token_seconds, median(stream.gaps))

    def close(self) -> None:
        for part in self._parts:
            part.stop()

    def tails(self) -> str:
        return "\n---\n".join(part.tail() for part in self._parts)

    def _is_up(self) -> bool:
        assert all(part.is_running for part in self._parts), self.tails()
        return all(is_healthy(url) for url in (self._prefill, self._decode))

    def _recipe(self, folder: Path, place: Namespace, core: int) -> Recipe:
        module = "vllm.entrypoints.openai.api_server"
        words = ("--model", str(self._model), "--dtype", self._dtype, "--host", place.address)
        own = {
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NIXL_SIDE_CHANNEL_HOST": place.address,
            "VLLM_NIXL_SIDE_CHANNEL_PORT": str(SIDE_CHANNEL_PORT),
        }
        variables = environment("", {**VARIABLES, **own})
        if self._overlay:
            variables["PYTHONPATH"] += os.pathsep + self._overlay
        command = (sys.executable, "-m", module, *words, *FLAGS)
        return Recipe(command, variables, (core,), folder / f"{place.interface}.log", place)


def post(url: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a completion. Raises AssertionError if it is none."""
    parts = url.removeprefix("http://")
    with closing(HTTPConnection(parts, timeout=PATIENCE_SECONDS)) as connection:
        headers = {"content-type": "application/json"}
        connection.request("POST", "/v1/completions", json.dumps(body), headers)
        answer = connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content[:300]
        found: dict[str, Any] = json.loads(content)
        return found


def is_healthy(url: str) -> bool:
    try:
        with closing(HTTPConnection(url.removeprefix("http://"), timeout=2.0)) as connection:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
    except OSError:
        return False
