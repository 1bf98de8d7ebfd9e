"""KV that travels as one byte an element, between engines that both offer it."""

from __future__ import annotations

import pytest

from kvtransfer.wire import WireFormat, head_bytes
from tests.engines.conftest import StartEngine, make_prompt
from tests.engines.pair import Engine, hand_over

NUM_TOKENS = 600


@pytest.mark.system
@pytest.mark.timeout(240)
def test_a_smaller_wire_format_needs_both_sides(start: StartEngine) -> None:
    fp8 = {"wire": "fp8"}
    prefill, decode = start("llama", transfer=fp8), start("llama", transfer=fp8)
    plain = start("llama")
    small, large = received(prefill, decode), received(prefill, plain)
    layout = decode.layout
    ratio = head_bytes(layout, WireFormat.FP8) / layout.head_bytes
    assert small == large * ratio
    assert ratio < 0.26  # of float32
    wait = [engine.wait_until_free() for engine in (prefill, decode, plain)]
    assert sum(each.loads_failed for each in wait) == 0


def received(prefill: Engine, decode: Engine) -> int:
    """Bytes that came; the first token is right, so close are the numbers."""
    before = decode.transfers.received_bytes
    prompt = make_prompt(1, NUM_TOKENS)
    found = hand_over(prefill, decode, prompt, max_tokens=1)
    assert found.tokens == decode.compute(prompt, 1).tokens
    return decode.transfers.received_bytes - before
