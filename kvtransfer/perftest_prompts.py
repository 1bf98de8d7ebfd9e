"""Whole prompts between two transfer threads, for the performance test."""

from __future__ import annotations

import contextlib
import os
import time
from multiprocessing.connection import Connection

from kvtransfer.incoming import LoadOrder
from kvtransfer.mover import Mover
from kvtransfer.numpy_cache import NumpyPagedCache
from kvtransfer.seal import Seal
from kvtransfer.ucx import UcxTransport
from proto.fleet_key import KEY_BYTES, FleetKey
from proto.layout import KvLayout

LEASE_SECONDS = 30.0
PAUSE_SECONDS = 0.001
SEAL = Seal(FleetKey(bytes(KEY_BYTES)))  # nobody else's messages come here


class PromptLoader:
    """The decode side, in this process."""

    def __init__(self, pipe: Connection, layout: KvLayout, num_tokens: int) -> None:
        self._pipe = pipe
        self._num_tokens = num_tokens
        self._blocks = tuple(range(layout.num_blocks(num_tokens)))
        self._source = pipe.recv_bytes()
        self._mover = Mover(UcxTransport(), NumpyPagedCache(layout, len(self._blocks)), SEAL)
        self._mover.start()
        self._number = 0

    def load_seconds(self) -> float:
        """From the demand to the last byte in the cache, of a prompt that is all computed.

        Raises TimeoutError if it does not arrive.
        """
        self._number += 1
        ticket = self._number.to_bytes(16)
        self._pipe.send_bytes(ticket)
        self._pipe.recv_bytes()
        before = self._mover.stats()
        order = LoadOrder(
            ticket,
            ticket,
            f"d{self._number}",
            "perftest",
            (self._source,),
            LEASE_SECONDS,
            0,
            self._num_tokens,
            self._blocks,
        )
        self._mover.post(lambda: self._mover.dialogue.start_load(order))
        while not (finished := self._mover.take_finished()).completed:
            if finished.failed:
                raise TimeoutError("the prompt has not arrived")
            time.sleep(PAUSE_SECONDS)
        return self._mover.stats().load_seconds - before.load_seconds

    def close(self) -> None:
        self._mover.stop()


def serve_prompts(pipe: Connection, core: int, layout: KvLayout, num_tokens: int) -> None:
    """The prefill side, in the other process: for each ticket that it is told a prompt."""
    os.sched_setaffinity(0, {core})
    blocks = tuple(range(layout.num_blocks(num_tokens)))
    cache = NumpyPagedCache(layout, len(blocks))
    cache.blocks[:] = 7
    mover = Mover(UcxTransport(), cache, SEAL)
    mover.start()
    pipe.send_bytes(mover.transport.address)
    with contextlib.suppress(EOFError, KeyboardInterrupt):
        while True:
            _offer(mover, pipe.recv_bytes(), blocks, num_tokens)
            pipe.send_bytes(b"computed")
    mover.stop()


def _offer(mover: Mover, ticket: bytes, blocks: tuple[int, ...], num_tokens: int) -> None:
    def open_send() -> None:
        request_id, now = ticket.hex(), time.monotonic()
        mover.sends.open(ticket, request_id, LEASE_SECONDS, now)
        mover.sends.place(request_id, blocks)
        for layer in mover.sends.shard.layers:
            mover.sends.layer_computed(request_id, layer, num_tokens, now)

    mover.post(open_send)
