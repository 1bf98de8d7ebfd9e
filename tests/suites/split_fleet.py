"""A fleet by its parts' own command lines: the prefill worker at the far end of a link, all
the rest at the near one.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from baton.fleet_key import write_key
from baton.listener import free_port
from fleet.valkey import ValkeyServer
from tests.suites.gateway import Gateway
from tests.suites.network import Link, Namespace
from tests.suites.part import Part, Recipe
from tests.system.processes import environment
from tests.system.waiting import wait_until

START_SECONDS = 150.0
MODEL_NAME = "served"
VARIABLES = {
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "OMP_NUM_THREADS": "1",
    # Lets a fault be asked for by a flag.
    "BATON_TESTING": "1",
    # Both ends are on one machine, and what joins them is to be the link alone.
    "UCX_TLS": "tcp,self",
}


class SplitFleet:
    """To be used by a thread that has entered the near namespace, and closed by its owner."""

    def __init__(self, folder: Path, model: Path, link: Link, dtype: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mark = secrets.token_hex(8)
        self.parts: dict[str, Part] = {}
        self._folder = folder
        self._model = model
        self._link = link
        self._dtype = dtype
        self._cores = sorted(os.sched_getaffinity(0))
        self._valkey = ValkeyServer(folder / "fleet.sock")
        self._key_file = folder / "fleet.key"
        write_key(self._key_file)

    def start(self, prefill_flags: Mapping[str, object] | None = None) -> None:
        """Valkey and the two workers; does not wait for them."""
        self._start("valkey", self._valkey.command(), self._cores)
        wait_until(self._valkey.socket.exists, START_SECONDS, self.tails)
        self.start_prefill(prefill_flags)
        self.start_decode()

    def start_prefill(self, more: Mapping[str, object] | None = None) -> None:
        """In the place of one that is gone, if there was one."""
        self._start_worker("prefill", self._cores[:1], self._link.far, more or {})

    def start_decode(self, more: Mapping[str, object] | None = None) -> None:
        self._start_worker("decode", self._cores[-1:], self._link.near, more or {})

    def start_gateway(self, name: str, more: Mapping[str, object] | None = None) -> Gateway:
        """Waits until it serves with both workers."""
        port = free_port("127.0.0.1", 0)
        words = {"served-model-name": MODEL_NAME, "port": port, "disaggregation": "always"}
        words |= more or {}
        self._start(name, self._python("gateway", words), self._cores)
        gateway = Gateway(f"http://127.0.0.1:{port}", MODEL_NAME)
        wait_until(lambda: self._serves(gateway), START_SECONDS, self.tails)
        return gateway

    def close(self) -> None:
        for part in reversed(self.parts.values()):
            part.stop()
        self.parts.clear()

    def tails(self) -> str:
        """The last lines of every part, for the one that has to find out why."""
        return "\n".join(f"--- {name}\n{part.tail()}" for name, part in self.parts.items())

    def _serves(self, gateway: Gateway) -> bool:
        gone = [name for name, part in self.parts.items() if not part.is_running]
        assert not gone, f"{', '.join(gone)} ended:\n{self.tails()}"
        return gateway.serves(1, 1)

    def _start_worker(
        self, role: str, cores: list[int], place: Namespace, more: Mapping[str, object]
    ) -> None:
        words = {"worker-id": f"{role}-0", "host": place.address, "port": 0, **more}
        self._start(role, self._python(f"{role}_worker", words), cores, place)

    def _python(self, module: str, more: Mapping[str, object]) -> tuple[str, ...]:
        common = {"model": self._model, "fleet": "suite", "dtype": self._dtype}
        words = [
            word for name, value in {**common, **more}.items() for word in (f"--{name}", value)
        ]
        return (sys.executable, "-m", module, *map(str, words))

    def _start(
        self, name: str, command: tuple[str, ...], cores: list[int], place: Namespace | None = None
    ) -> None:
        if name in self.parts:
            self.parts[name].bury()
        access = {"BATON_REDIS": self._valkey.url, "BATON_FLEET_KEY_FILE": str(self._key_file)}
        variables = environment(self.mark, {**VARIABLES, **access})
        log = self._folder / f"{name}.log"
        self.parts[name] = Part(Recipe(command, variables, tuple(cores), log, place))
