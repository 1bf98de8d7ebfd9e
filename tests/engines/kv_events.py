"""What an engine tells of its blocks, over ZeroMQ, as an index of prefixes would hear it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import zmq

PATIENCE_SECONDS = 30.0
POLL_MILLISECONDS = 50
BLOCK_SIZE = 128

Block = int
# The block before it, if there is one, and its own tokens.
Place = tuple[Block | None, tuple[int, ...]]


class Stored(msgspec.Struct, frozen=True, tag="BlockStored"):
    block_hashes: tuple[Block, ...]
    parent_block_hash: Block | None
    token_ids: tuple[int, ...]
    block_size: int
    lora_id: int | None
    medium: str


class Removed(msgspec.Struct, frozen=True, tag="BlockRemoved"):
    block_hashes: tuple[Block, ...]
    medium: str


class Batch(msgspec.Struct, frozen=True, array_like=True):
    at: float
    events: tuple[Stored | Removed, ...]


class Index:
    """Where the blocks of prompts are, by medium. Ends with its `with` block."""

    def __init__(self) -> None:
        self._context: Any = zmq.Context()
        self._socket: Any = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        port = self._socket.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._held: dict[str, set[Block]] = defaultdict(set)
        self._blocks: dict[str, dict[Place, Block]] = defaultdict(dict)

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.destroy(linger=0)

    def blocks(self, medium: str, prompt: Sequence[int]) -> list[Block]:
        """Of the prompt, from its start on, as far as they are there."""
        found: list[Block] = []
        parent: Block | None = None
        for first in range(0, len(prompt), BLOCK_SIZE):
            place = parent, tuple(prompt[first : first + BLOCK_SIZE])
            parent = self._blocks[medium].get(place)
            if parent is None or parent not in self._held[medium]:
                break
            found.append(parent)
        return found

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not is_so():
            assert time.monotonic() < deadline, {name: len(x) for name, x in self._held.items()}
            self.listen()

    def listen(self) -> bool:
        """To one batch of events. False if none came."""
        if not self._socket.poll(POLL_MILLISECONDS):
            return False
        _, _, payload = self._socket.recv_multipart()
        for event in msgspec.msgpack.decode(payload, type=Batch).events:
            self._note(event)
        return True

    def _note(self, event: Stored | Removed) -> None:
        if isinstance(event, Removed):
            self._held[event.medium].difference_update(event.block_hashes)
            return
        self._held[event.medium].update(event.block_hashes)
        assert event.block_size == BLOCK_SIZE
        chain = [event.parent_block_hash, *event.block_hashes]
        for number, (parent, block) in enumerate(pairwise(chain)):
            tokens = event.token_ids[number * BLOCK_SIZE : (number + 1) * BLOCK_SIZE]
            assert block is not None
            self._blocks[event.medium][parent, tokens] = block
