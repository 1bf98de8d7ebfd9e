"""A worker in a process of its own: `python -m tests.kvtransfer.peer ROLE [HOST]`.

It is spoken to in lines, and on the host of this name, or on the one where it is.

It says its address. Then it is told a ticket's number, the copy to freeze at and the address
of the other side, and moves one prompt. It ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
from dataclasses import dataclass, field, replace

from kvtransfer.mover_config import MoverConfig
from kvtransfer.ucx import UcxTransport
from proto.layout import KvLayout
from tests.kvtransfer.builders import eventually, make_order, make_ticket, prompt_bytes
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.paged import kv_of

# A block is more than UCX sends without asking the receiver.
LAYOUT = KvLayout(
    block_size=16,
    num_heads=1,
    content_size=512,
    key_size=256,
    dtype="bfloat16",
    stage_layers=(8,),
)
NUM_TOKENS = 65
HALF = 32
BLOCKS = range(5)
MANY_SLOTS = MoverConfig(staging_bytes=1 << 20, slot_bytes=20_000)
FEW_SLOTS = replace(MANY_SLOTS, staging_bytes=100_000)
KV = kv_of(LAYOUT, 1, NUM_TOKENS)


@dataclass
class Freezer:
    """Says so and holds the transfer thread until the next line, at the copy of this number;
    at 0 never. No copy is made before `is_ready`, so that all before it are made in one go.
    """

    copies_left: int
    is_ready: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        self.is_ready.wait()
        self.copies_left -= 1
        if self.copies_left == 0:
            say("frozen")
            sys.stdin.readline()


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def prefill(worker: Worker, number: int, freeze_at: int) -> None:
    """The second half is computed when the first has been taken, so that all is connected."""
    ticket, request_id = make_ticket(number), f"p{number}"
    worker.compute(ticket, request_id, KV, (0, HALF), BLOCKS)
    sent = prompt_bytes(HALF, LAYOUT)
    eventually(lambda: worker.mover.stats().sent_bytes == sent)
    worker.cache.before_copy = freezer = Freezer(freeze_at)
    worker.compute(ticket, request_id, KV, (HALF, NUM_TOKENS), BLOCKS)
    worker.end(ticket, request_id)
    freezer.is_ready.set()


def decode(worker: Worker, number: int, freeze_at: int, source: bytes) -> None:
    worker.cache.before_copy = freezer = Freezer(freeze_at)
    freezer.is_ready.set()
    order = make_order(
        make_ticket(number),
        f"d{number}",
        num_tokens=NUM_TOKENS - 1,
        source_addresses=(source,),
        layout=LAYOUT,
        first_block=20,
    )
    worker.load(order)


def main(role: str, host: str | None = None) -> None:
    """A sender may have much under way, of which a receiver takes little at a time."""
    config = replace(MANY_SLOTS, stall_seconds=2.0) if role == "prefill" else FEW_SLOTS
    transport = UcxTransport(host=host.encode() if host else None)
    with Worker(transport, config, LAYOUT, num_blocks=64) as worker:
        say(worker.address.hex())
        number, freeze_at, source = sys.stdin.readline().split()
        if role == "prefill":
            prefill(worker, int(number), int(freeze_at))
            worker.wait_for(f"p{number}")
        else:
            decode(worker, int(number), int(freeze_at), bytes.fromhex(source))
            worker.wait_for(f"d{number}")
            landed = worker.cache.tokens(range(20, 24))
            say("same" if (landed == KV[:, :, : NUM_TOKENS - 1]).all() else "different")
        say("done")
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
