"""Two network namespaces of this machine, joined by one link of a chosen rate.

Needs root, `ip` and `tc`. They are named for the process that made them, so that what one
that was killed has left is found and removed by the next.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from baton.identity import PROC
from tests.system.waiting import wait_until

PREFIX = "baton-suite"
NAMESPACES = Path("/run/netns")
CLONE_NEWNET = 0x40000000
# A bucket holds the largest packet that a virtual link sends at once; what waits beyond the
# latency is dropped.
BUCKET = ("burst", "256kb", "latency", "50ms")
COMMAND_SECONDS = 20.0


class NetworkMissing(Exception):
    """What this machine lacks for namespaces of its own; one line for people."""


@dataclass(frozen=True, slots=True)
class Namespace:
    name: str
    address: str
    interface: str

    def command(self, words: Sequence[str]) -> tuple[str, ...]:
        """Runs `words` inside, in the same process, and as on another host: nothing of its
        shared memory can be seen from outside.
        """
        return ("ip", "netns", "exec", self.name, "unshare", "--ipc", *words)

    def set_rate(self, bits_per_second: float | None) -> None:
        """What leaves by the link; None takes the limit away."""
        device = ("qdisc", "replace", "dev", self.interface, "root")
        if bits_per_second is None:
            with suppress(subprocess.CalledProcessError):
                run("tc", "-n", self.name, "qdisc", "del", "dev", self.interface, "root")
        else:
            rate = f"{round(bits_per_second)}bit"
            run("tc", "-n", self.name, *device, "tbf", "rate", rate, *BUCKET)

    def set_up(self, is_up: bool) -> None:
        run("ip", "-n", self.name, "link", "set", self.interface, "up" if is_up else "down")

    def is_up(self) -> bool:
        """A link is up a moment after both its ends have been set so."""
        return b"state UP" in run("ip", "-n", self.name, "link", "show", "dev", self.interface)

    def enter(self) -> None:
        """Takes this thread, and what it starts from now on, into the namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        with (NAMESPACES / self.name).open("rb") as handle:
            if libc.setns(handle.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns to {self.name}")


@dataclass(frozen=True, slots=True)
class Link:
    """`near` is where decode worker, gateway and client live, `far` the prefill worker."""

    near: Namespace
    far: Namespace

    def set_rate(self, bits_per_second: float | None) -> None:
        for end in (self.near, self.far):
            end.set_rate(bits_per_second)

    def cut(self) -> None:
        self.far.set_up(False)

    def heal(self) -> None:
        self.far.set_up(True)

    @contextmanager
    def broken(self) -> Iterator[None]:
        """Cut, until the block ends."""
        self.cut()
        try:
            yield
        finally:
            self.heal()

    @contextmanager
    def limited(self, bits_per_second: float) -> Iterator[None]:
        """So fast at most, until the block ends."""
        self.set_rate(bits_per_second)
        try:
            yield
        finally:
            self.set_rate(None)


@contextmanager
def joined_namespaces() -> Iterator[Link]:
    """Both, until the block ends. Raises NetworkMissing."""
    check_machine()
    remove_stale()
    prefix = f"{PREFIX}-{os.getpid()}"
    near = Namespace(f"{prefix}-near", "10.213.7.1", "near0")
    far = Namespace(f"{prefix}-far", "10.213.7.2", "far0")
    try:
        make(near, far)
        yield Link(near, far)
    finally:
        for end in (near, far):
            remove(end.name)


def check_machine() -> None:
    """Raises NetworkMissing."""
    for tool in ("ip", "tc"):
        if not shutil.which(tool):
            raise NetworkMissing(f"`{tool}` is not installed (Debian: iproute2)")
    if os.geteuid() != 0:
        raise NetworkMissing("network namespaces need root: run it with sudo")


def make(near: Namespace, far: Namespace) -> None:
    """Raises NetworkMissing."""
    try:
        for end in (near, far):
            run("ip", "netns", "add", end.name)
        pair = (near.interface, "netns", near.name, "type", "veth", "peer")
        run("ip", "link", "add", *pair, "name", far.interface, "netns", far.name)
        for end in (near, far):
            run("ip", "-n", end.name, "address", "add", f"{end.address}/24", "dev", end.interface)
            run("ip", "-n", end.name, "link", "set", "lo", "up")
            end.set_up(True)
        for end in (near, far):
            wait_until(end.is_up, COMMAND_SECONDS)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode(errors="replace").strip()
        raise NetworkMissing(f"no network namespaces here: {reason}") from error


def remove_stale() -> None:
    """Those of processes that are gone."""
    for entry in NAMESPACES.glob(f"{PREFIX}-*"):
        pid = entry.name.removeprefix(f"{PREFIX}-").partition("-")[0]
        if not (PROC / pid).exists():
            remove(entry.name)


def remove(name: str) -> None:
    if (NAMESPACES / name).exists():
        run("ip", "netns", "delete", name)


def run(*words: str) -> bytes:
    """What it printed. Raises CalledProcessError."""
    done = subprocess.run(words, check=True, capture_output=True, timeout=COMMAND_SECONDS)
    return done.stdout
