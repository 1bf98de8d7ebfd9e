"""Several workers of each role and several gateways on one host, by their own command lines."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from baton.fleet_key import write_key
from baton.listener import free_port
from fleet.valkey import ValkeyServer
from tests.suites.gateway import Gateway
from tests.suites.part import Part, Recipe
from tests.suites.split_fleet import MODEL_NAME, VARIABLES
from tests.system.processes import environment
from tests.system.waiting import wait_until

START_SECONDS = 240.0
HOST = "127.0.0.1"
ROLES = ("prefill", "decode")

Flags = Mapping[str, object]


class WideFleet:
    """Its owner closes it, in the thread that made it."""

    def __init__(self, folder: Path, model: Path, dtype: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.mark = secrets.token_hex(8)
        self.parts: dict[str, Part] = {}
        self._folder = folder
        self._model = model
        self._dtype = dtype
        self._valkey = ValkeyServer(folder / "fleet.sock")
        self._key_file = folder / "fleet.key"
        self._num_workers: dict[str, int] = {}
        write_key(self._key_file)

    def start(self, num_prefill: int, num_decode: int, flags: Mapping[str, Flags]) -> None:
        """Valkey and workers, with `flags` by role; does not wait for them."""
        self._num_workers = dict(zip(ROLES, (num_prefill, num_decode), strict=True))
        self._start("valkey", self._valkey.command(), all_cores())
        wait_until(self._valkey.socket.exists, START_SECONDS, self.tails)
        for name, core in places(all_cores(), num_prefill, num_decode).items():
            role = name.partition("-")[0]
            words = {"worker-id": name, "host": HOST, "port": 0, **flags.get(role, {})}
            self._start(name, self._python(f"{role}_worker", words), (core,))

    def start_gateways(
        self, names: Sequence[str], flags: Flags, before: Sequence[Gateway] = ()
    ) -> tuple[Gateway, ...]:
        """Waits until each serves with all workers. They take the places of those `before`."""
        gateways = tuple(before) or tuple(
            Gateway(f"http://{HOST}:{free_port(HOST, 0)}", MODEL_NAME) for _ in names
        )
        expected = {f"expect-{role}": number for role, number in self._num_workers.items()}
        for name, gateway in zip(names, gateways, strict=True):
            port = gateway.url.rpartition(":")[2]
            words = {"served-model-name": MODEL_NAME, "host": HOST, "port": port, **expected}
            self._start(name, self._python("gateway", {**words, **flags}), all_cores())
        wait_until(lambda: all(map(self._serves, gateways)), START_SECONDS, self.tails)
        return gateways

    def stop(self, *names: str) -> None:
        """By SIGTERM."""
        for name in names:
            self.parts.pop(name).stop()

    def close(self) -> None:
        self.stop(*reversed(self.parts))

    def tails(self) -> str:
        """The last lines of every part, for the one that has to find out why."""
        return "\n".join(f"--- {name}\n{part.tail()}" for name, part in self.parts.items())

    def _serves(self, gateway: Gateway) -> bool:
        gone = [name for name, part in self.parts.items() if not part.is_running]
        assert not gone, f"{', '.join(gone)} ended:\n{self.tails()}"
        return gateway.serves(self._num_workers["prefill"], self._num_workers["decode"])

    def _python(self, module: str, more: Flags) -> tuple[str, ...]:
        common = {"model": self._model, "fleet": "suite", "dtype": self._dtype}
        words = (f"--{name}={value}" for name, value in {**common, **more}.items())
        return (sys.executable, "-m", module, *words)

    def _start(self, name: str, command: tuple[str, ...], cores: Sequence[int]) -> None:
        # Inside a host, as `baton up` does it.
        variables = {key: value for key, value in VARIABLES.items() if key != "UCX_TLS"}
        access = {"BATON_REDIS": self._valkey.url, "BATON_FLEET_KEY_FILE": str(self._key_file)}
        log = self._folder / f"{name}.log"
        surroundings = environment(self.mark, {**variables, **access})
        self.parts[name] = Part(Recipe(command, surroundings, tuple(cores), log))


def all_cores() -> tuple[int, ...]:
    return tuple(sorted(os.sched_getaffinity(0)))


def places(cores: Sequence[int], num_prefill: int, num_decode: int) -> dict[str, int]:
    """A core for each worker. Decode workers share one with prefill workers only if they must."""
    rest = cores[num_prefill:] or cores
    prefill = {f"prefill-{i}": cores[i % len(cores)] for i in range(num_prefill)}
    return prefill | {f"decode-{i}": rest[i % len(rest)] for i in range(num_decode)}
