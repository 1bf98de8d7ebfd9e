"""Two processes over UCX, on one host and on two. When one dies or stands still, the other
frees what it held.

Whoever dies is noticed by that: leases and patience with silence are longer than a test.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from kvtransfer.causes import Cause
from kvtransfer.mover_config import MoverConfig
from kvtransfer.ucx import UcxTransport
from tests.kvtransfer import peer
from tests.kvtransfer.builders import make_ticket
from tests.kvtransfer.engine import LEASE, Worker
from tests.kvtransfer.peer import BLOCKS, FEW_SLOTS, KV, LAYOUT, MANY_SLOTS, NUM_TOKENS

ROOT = Path(__file__).resolve().parents[2]
PATIENT = replace(MANY_SLOTS, stall_seconds=LEASE)
IMPATIENT = replace(MANY_SLOTS, stall_seconds=0.5, ping_seconds=0.1)
KILLED = [signal.SIGKILL]
STOPPED = [signal.SIGSTOP]
STOPPED_AND_KILLED = [signal.SIGSTOP, signal.SIGKILL]


class Peer:
    """The other process."""

    def __init__(self, role: str, host: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kvtransfer.peer", role, host],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.address = bytes.fromhex(self.hear())

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        """Its next line that is not UCX's."""
        assert self.process.stdout is not None
        while (line := self.process.stdout.readline()).startswith("["):
            pass
        return line.strip()

    def tell(self, *words: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def stop(self, how: list[signal.Signals]) -> None:
        for each in how:
            self.process.send_signal(each)
            if each is signal.SIGKILL:
                self.process.wait()


@dataclass
class Pair:
    """This process's worker, on the host "here", and others on `there`."""

    there: str
    stack: ExitStack = field(default_factory=ExitStack)

    def worker(self, config: MoverConfig) -> Worker:
        transport = UcxTransport(host=b"here")
        return self.stack.enter_context(Worker(transport, config, LAYOUT, num_blocks=64))

    def other(self, role: str) -> Peer:
        return self.stack.enter_context(Peer(role, self.there))


@pytest.fixture(params=["here", "there"], ids=["one-host", "two-hosts"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    pair = Pair(request.param)
    with pair.stack:
        yield pair


def load_from(worker: Worker, other: Peer, number: int, freeze_at: int = 0) -> None:
    peer.decode(worker, number, 0, other.address)
    other.tell(number, freeze_at, "-")


def send_to(worker: Worker, other: Peer, number: int, freeze_at: int = 0) -> None:
    other.tell(number, freeze_at, worker.address.hex())
    worker.prefill(make_ticket(number), f"p{number}", KV, BLOCKS)


def assert_landed(worker: Worker) -> None:
    landed = worker.cache.tokens(range(20, 24))
    np.testing.assert_array_equal(landed, KV[:, :, : NUM_TOKENS - 1])


def failures(worker: Worker) -> set[str]:
    return {cause for cause, number in worker.mover.stats().failures.items() if number}


@pytest.mark.parametrize("config", [MANY_SLOTS, FEW_SLOTS], ids=["many-slots", "few-slots"])
def test_a_prompt_comes_from_another_process(pair: Pair, config: MoverConfig) -> None:
    worker, other = pair.worker(config), pair.other("prefill")
    load_from(worker, other, 1)
    assert worker.wait_for("d1").completed == ["d1"]
    assert_landed(worker)
    assert other.hear() == "done"


def test_a_prompt_goes_to_another_process(pair: Pair) -> None:
    worker, other = pair.worker(FEW_SLOTS), pair.other("decode")
    send_to(worker, other, 1)
    assert other.hear() == "same"
    assert worker.wait_for("p1").sent == ["p1"]


ENDS = [
    pytest.param(PATIENT, KILLED, Cause.LINK_LOST, id="killed"),
    pytest.param(IMPATIENT, STOPPED, Cause.PEER_SILENT, id="stopped"),
    pytest.param(PATIENT, STOPPED_AND_KILLED, Cause.LINK_LOST, id="stopped-and-killed"),
]


@pytest.mark.parametrize("staging_bytes", [1 << 20, 100_000], ids=["many-slots", "few-slots"])
@pytest.mark.parametrize(("config", "how", "cause"), ENDS)
def test_the_receiver_outlives_its_sender(
    pair: Pair, config: MoverConfig, how: list[signal.Signals], cause: Cause, staging_bytes: int
) -> None:
    worker = pair.worker(replace(config, staging_bytes=staging_bytes))
    other = pair.other("prefill")
    load_from(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    other.stop(how)
    assert worker.wait_for("d1").failed == ["d1"]
    assert failures(worker) <= {f"load_{cause}", f"load_{Cause.LINK_LOST}"}
    worker.wait_until_idle()
    load_from(worker, pair.other("prefill"), 2)
    assert worker.wait_for("d2").completed == ["d2"]
    if how == STOPPED:
        other.stop([signal.SIGCONT])
    assert_landed(worker)


def test_messages_of_a_dead_sender_are_taken_without_harm(pair: Pair) -> None:
    """The receiver stands still from the end of the first half until the sender is dead."""
    worker, other = pair.worker(PATIENT), pair.other("prefill")
    copies, is_dead = count(1), threading.Event()

    def hold() -> None:
        if next(copies) == LAYOUT.num_layers * LAYOUT.num_blocks(peer.HALF):
            is_dead.wait()

    worker.cache.before_copy = hold
    load_from(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    other.stop(KILLED)
    is_dead.set()
    assert worker.wait_for("d1").failed == ["d1"]
    worker.wait_until_idle()
    load_from(worker, pair.other("prefill"), 2)
    assert worker.wait_for("d2").completed == ["d2"]


@pytest.mark.parametrize(("config", "how", "cause"), ENDS)
def test_the_sender_outlives_its_receiver(
    pair: Pair, config: MoverConfig, how: list[signal.Signals], cause: Cause
) -> None:
    worker, other = pair.worker(config), pair.other("decode")
    send_to(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    other.stop(how)
    assert worker.wait_for("p1").sent == ["p1"]
    assert failures(worker) <= {f"send_{cause}", f"send_{Cause.LINK_LOST}"}
    worker.wait_until_idle()
    replacement = pair.other("decode")
    send_to(worker, replacement, 2)
    assert replacement.hear() == "same"
    assert worker.wait_for("p2").sent == ["p1", "p2"]


def test_a_sender_that_goes_on_after_it_was_given_up_writes_nothing(pair: Pair) -> None:
    worker, other = pair.worker(replace(IMPATIENT, staging_bytes=100_000)), pair.other("prefill")
    load_from(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    assert worker.wait_for("d1").failed == ["d1"]
    worker.cache.blocks[:] = 0
    other.tell("go on")
    assert other.hear() == "done"
    assert not worker.cache.blocks.any()
