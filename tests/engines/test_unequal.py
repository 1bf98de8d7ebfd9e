"""Prompts between real engines of unequal shape: the tokens are those of the decode engine's own
computation, the bytes those that the layouts predict, and nothing is recomputed.
"""

from __future__ import annotations

from itertools import product

import pytest

from tests.engines.conftest import StartEngine, make_prompt
from tests.engines.pair import Engine, hand_over, moved_bytes

LENGTHS = (2, 64, 65, 129, 300, 700)
SHAPES = {
    "tp1-b128": {},
    "tp1-b64": {"block_size": 64},
    "tp2-b128": {"tensor_parallel_size": 2},
    "tp2-b64": {"tensor_parallel_size": 2, "block_size": 64},
}
PAIRS = [
    pytest.param(source, target, id=f"{source}-to-{target}")
    for source, target in product(("tp1-b128", "tp2-b64"), ("tp1-b64", "tp2-b128"))
]


@pytest.fixture(scope="module")
def engines(start_for_all: StartEngine) -> dict[str, Engine]:
    return {name: start_for_all("llama", **shape) for name, shape in SHAPES.items()}


def assert_hands_over(prefill: Engine, decode: Engine, lengths: tuple[int, ...] = LENGTHS) -> None:
    before = decode.transfers
    expected = 0
    for num_tokens in lengths:
        # The engine computes the prompt's last token as it does in a hand-off: by a decode step.
        prompt = make_prompt(num_tokens, num_tokens - 1)
        last, *rest = decode.compute(prompt, 9).tokens
        found = hand_over(prefill, decode, [*prompt, last], 8)
        assert found.tokens == tuple(rest), num_tokens
        expected += moved_bytes(prefill.layout, decode.layout, num_tokens)
    prefill.wait_until_free()
    after = decode.wait_until_free()
    assert after.received_bytes - before.received_bytes == expected
    assert after.loads_failed == before.loads_failed
    assert after.late_segments == before.late_segments


@pytest.mark.system
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_tp_and_block_size_may_differ(engines: dict[str, Engine], source: str, target: str) -> None:
    assert_hands_over(engines[source], engines[target])
