"""The fleets that faults are done to: one inside a host, one with a link between its workers."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import psutil

from tests.suites.gateway import Gateway
from tests.suites.levels import Level, levels
from tests.suites.network import Link
from tests.suites.part import signal_session
from tests.suites.split_fleet import SplitFleet
from tests.system.live_fleet import LiveFleet
from tests.system.waiting import wait_until

START_SECONDS = 150.0
ROLES = ("prefill", "decode")
# Short, so that a request that somebody forgot ends soon; in seconds.
TIMEOUTS = {"prefill": 15, "first-token": 40, "between-tokens": 15}


class Scene(Protocol):
    """A fleet of one prefill and one decode worker. Only its owner closes it."""

    @property
    def gateway(self) -> Gateway: ...

    @property
    def link(self) -> Link | None: ...

    def pid(self, role: str) -> int | None:
        """Of the worker or the gateway; None while there is none."""

    def revive(self) -> None:
        """Sees to it that workers which are gone come again, and returns at once."""

    def restart(self, role: str, flags: Mapping[str, object]) -> None:
        """Ends the worker and starts it with more flags, where that can be done."""

    def close(self) -> None:
        """Idempotent."""


class HostScene:
    """`baton up`: over shared memory, and its supervisor revives."""

    link = None

    def __init__(self, folder: Path, model: Path, dtype: str) -> None:
        names = {f"{name}-seconds": seconds for name, seconds in TIMEOUTS.items()}
        variables = {
            f"BATON_{name.replace('-', '_').upper()}": str(seconds)
            for name, seconds in names.items()
        }
        self._fleet = LiveFleet(folder, model, "--dtype", dtype, variables=variables)
        self.gateway = Gateway(self._fleet.url, self._fleet.model)

    def pid(self, role: str) -> int | None:
        name = role if role == "gateway" else f"{role}-0"
        (found,) = (each for each in self._fleet.state.processes if each.name == name)
        return found.identity.pid if found.identity else None

    def revive(self) -> None:
        return

    def restart(self, role: str, flags: Mapping[str, object]) -> None:
        raise NotImplementedError(f"{role} of `baton up` keeps its flags")

    def close(self) -> None:
        self._fleet.close()


class LinkScene:
    """Over TCP and a link of its own. Enter the near namespace first."""

    def __init__(self, folder: Path, model: Path, dtype: str, link: Link) -> None:
        self.link = link
        self._fleet = SplitFleet(folder, model, link, dtype)
        try:
            self._fleet.start()
            timeouts = {f"{name}-seconds": seconds for name, seconds in TIMEOUTS.items()}
            self.gateway = self._fleet.start_gateway("gateway", timeouts)
        except BaseException:
            self.close()
            raise

    def pid(self, role: str) -> int | None:
        part = self._fleet.parts[role]
        return part.pid if part.is_running else None

    def revive(self) -> None:
        for role in ROLES:
            if self.pid(role) is None:
                self.restart(role, {})

    def restart(self, role: str, flags: Mapping[str, object]) -> None:
        start = {"prefill": self._fleet.start_prefill, "decode": self._fleet.start_decode}
        start[role](flags)

    def close(self) -> None:
        self._fleet.close()


def wait_until_whole(scene: Scene) -> None:
    """Both workers take requests."""

    def has_come() -> bool:
        scene.revive()  # one may still be about to end
        return is_whole(scene)

    wait_until(has_come, START_SECONDS, lambda: "a worker did not come again")


def is_whole(scene: Scene) -> bool:
    """By what the gateway says of the very processes that run."""
    return all(scene.pid(role) for role in ROLES) and scene.gateway.serves(1, 1)


def handles(scene: Scene) -> Mapping[str, Level]:
    """Of gateway, workers and engines, by name."""
    pids = {role: scene.pid(role) for role in ("gateway", *ROLES)}
    return levels({role: pid for role, pid in pids.items() if pid})


def kill(scene: Scene, role: str, *, only_engine: bool = False) -> None:
    """The worker's process, or that of its engine."""
    pid = scene.pid(role)
    assert pid, f"{role} is not running"
    victims = engines(pid) if only_engine else [pid]
    for victim in victims:
        os.kill(victim, signal.SIGKILL)


def engines(pid: int) -> list[int]:
    children = psutil.Process(pid).children(recursive=True)
    return [child.pid for child in children if child.name().startswith("VLLM")]


def halt(scene: Scene, role: str, *, is_halted: bool) -> None:
    """SIGSTOP or SIGCONT to the worker and all that it started."""
    if pid := scene.pid(role):
        signal_session(pid, signal.SIGSTOP if is_halted else signal.SIGCONT)


def halt_engine(scene: Scene, role: str, *, is_halted: bool) -> None:
    """To the engine alone: the worker goes on answering the gateway."""
    pid = scene.pid(role)
    for engine in engines(pid) if pid else ():
        os.kill(engine, signal.SIGSTOP if is_halted else signal.SIGCONT)
