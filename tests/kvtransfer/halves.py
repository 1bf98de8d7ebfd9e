"""A transfer in steps, for tests that interfere with it."""

from __future__ import annotations

import numpy as np

from tests.kvtransfer.builders import (
    LAYOUT,
    eventually,
    make_order,
    make_ticket,
    prompt_bytes,
)
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.paged import kv_of

NUM_TOKENS = 33
BLOCKS = range(9)
KV = kv_of(LAYOUT, 1, NUM_TOKENS)


def load(prefill: Worker, decode: Worker, number: int = 1, lease_seconds: float = 30.0) -> None:
    order = make_order(
        make_ticket(number),
        f"d{number}",
        num_tokens=NUM_TOKENS - 1,
        source_addresses=(prefill.address,),
        lease_seconds=lease_seconds,
        first_block=100 + 10 * number,
    )
    decode.load(order)


def transfer(prefill: Worker, decode: Worker, number: int) -> None:
    """A whole prompt, well."""
    load(prefill, decode, number)
    prefill.prefill(make_ticket(number), f"p{number}", KV, BLOCKS)
    assert f"d{number}" in decode.wait_for(f"d{number}").completed
    blocks = range(100 + 10 * number, 100 + 10 * number + 8)
    np.testing.assert_array_equal(decode.cache.tokens(blocks), KV[:, :, : NUM_TOKENS - 1])


def begin(prefill: Worker, decode: Worker, lease_seconds: float = 30.0) -> None:
    """A transfer that stands still when half of the prompt is computed and has arrived."""
    before = decode.mover.stats().received_bytes
    load(prefill, decode, lease_seconds=lease_seconds)
    prefill.compute(make_ticket(), "p1", KV, (0, 16), BLOCKS, lease_seconds)
    half = prompt_bytes(16)
    eventually(lambda: decode.mover.stats().received_bytes == before + half)


def go_on(prefill: Worker) -> None:
    """The prefill engine computes the rest, knowing nothing."""
    prefill.compute(make_ticket(), "p1", KV, (16, NUM_TOKENS), BLOCKS)
    prefill.end(make_ticket(), "p1")
