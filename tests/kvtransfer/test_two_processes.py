"""Two processes over UCX. When one dies or stands still, the other frees what it held."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from kvtransfer.mover import MoverConfig
from kvtransfer.ucx import UcxTransport
from tests.kvtransfer import peer
from tests.kvtransfer.builders import make_ticket
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.peer import BLOCKS, FEW_SLOTS, KV, LAYOUT, MANY_SLOTS, NUM_TOKENS

ROOT = Path(__file__).resolve().parents[2]


class Peer:
    """The other process."""

    def __init__(self, role: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.kvtransfer.peer", role],
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

    def stop(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        if how is signal.SIGKILL:
            self.process.wait()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def start(stack: ExitStack, role: str, config: MoverConfig) -> tuple[Worker, Peer]:
    """The worker of this process, and the other process in its role."""
    other = stack.enter_context(Peer(role))
    return stack.enter_context(Worker(UcxTransport(), config, LAYOUT, num_blocks=64)), other


def load_from(worker: Worker, other: Peer, number: int, freeze_at: int = 0) -> None:
    lease_seconds = 1.0 if freeze_at else 30.0
    peer.decode(worker, number, 0, other.address, lease_seconds)
    other.tell(number, freeze_at, "-")


def send_to(worker: Worker, other: Peer, number: int, freeze_at: int = 0) -> None:
    ticket, request_id = make_ticket(number), f"p{number}"
    other.tell(number, freeze_at, worker.address.hex())
    worker.prefill(ticket, request_id, KV, BLOCKS, lease_seconds=1.0 if freeze_at else 30.0)


def assert_landed(worker: Worker) -> None:
    landed = worker.cache.tokens(range(20, 24))
    np.testing.assert_array_equal(landed, KV[:, : NUM_TOKENS - 1])


@pytest.mark.parametrize("config", [MANY_SLOTS, FEW_SLOTS], ids=["many-slots", "few-slots"])
def test_a_prompt_comes_from_another_process(stack: ExitStack, config: MoverConfig) -> None:
    worker, other = start(stack, "prefill", config)
    load_from(worker, other, 1)
    assert worker.wait_for("d1").completed == ["d1"]
    assert_landed(worker)
    assert other.hear() == "done"


def test_a_prompt_goes_to_another_process(stack: ExitStack) -> None:
    worker, other = start(stack, "decode", FEW_SLOTS)
    send_to(worker, other, 1)
    assert other.hear() == "same"
    assert worker.wait_for("p1").sent == ["p1"]


@pytest.mark.parametrize("config", [MANY_SLOTS, FEW_SLOTS], ids=["many-slots", "few-slots"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_the_receiver_outlives_its_sender(
    stack: ExitStack, how: signal.Signals, config: MoverConfig
) -> None:
    worker, other = start(stack, "prefill", config)
    load_from(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    other.stop(how)
    assert worker.wait_for("d1").failed == ["d1"]
    worker.wait_until_idle()
    replacement = stack.enter_context(Peer("prefill"))
    load_from(worker, replacement, 2)
    assert worker.wait_for("d2").completed == ["d2"]
    if how is signal.SIGSTOP:
        other.stop(signal.SIGCONT)
    assert_landed(worker)


def test_messages_of_a_dead_sender_are_taken_without_harm(stack: ExitStack) -> None:
    """The receiver stands still from the end of the first half until the sender is dead."""
    worker, other = start(stack, "prefill", MANY_SLOTS)
    copies, is_dead = count(1), threading.Event()

    def hold() -> None:
        if next(copies) == LAYOUT.num_layers * LAYOUT.num_blocks(peer.HALF):
            is_dead.wait()

    worker.cache.before_copy = hold
    load_from(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    other.stop(signal.SIGKILL)
    is_dead.set()
    assert worker.wait_for("d1").failed == ["d1"]
    worker.wait_until_idle()
    replacement = stack.enter_context(Peer("prefill"))
    load_from(worker, replacement, 2)
    assert worker.wait_for("d2").completed == ["d2"]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_the_sender_outlives_its_receiver(stack: ExitStack, how: signal.Signals) -> None:
    worker, other = start(stack, "decode", MANY_SLOTS)
    send_to(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    other.stop(how)
    assert worker.wait_for("p1").sent == ["p1"]
    assert worker.mover.stats().sends_failed == 1
    worker.wait_until_idle()
    replacement = stack.enter_context(Peer("decode"))
    send_to(worker, replacement, 2)
    assert replacement.hear() == "same"
    assert worker.wait_for("p2").sent == ["p1", "p2"]


def test_a_sender_that_goes_on_after_it_was_given_up_writes_nothing(stack: ExitStack) -> None:
    worker, other = start(stack, "prefill", FEW_SLOTS)
    load_from(worker, other, 1, freeze_at=12)
    assert other.hear() == "frozen"
    assert worker.wait_for("d1").failed == ["d1"]
    worker.cache.blocks[:] = 0
    other.tell("go on")
    assert other.hear() == "done"
    assert not worker.cache.blocks.any()
