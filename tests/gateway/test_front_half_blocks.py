"""Names of a prompt's blocks, by vLLM's own hasher."""

from __future__ import annotations

from typing import Any

import pytest

from tests.gateway.served_gateway import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM's parts use what their libraries have deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def front_half(whole_gateway: Served) -> Any:
    """Imported once, where its warnings are expected."""
    from gateway import front_half

    return front_half


def names(front_half: Any, prompt: list[int], *sizes: int, **changes: Any) -> dict[int, list[int]]:
    from vllm.sampling_params import SamplingParams

    values = {
        "request_id": "r",
        "prompt_token_ids": prompt,
        "mm_features": None,
        "sampling_params": SamplingParams(),
        "pooling_params": None,
        "arrival_time": 0.0,
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
    }
    request = front_half.EngineCoreRequest(**values | changes)
    found = front_half.BlockNamer().keys(request, sizes)
    return {size: keys.tolist() for size, keys in found.items()}


async def test_only_whole_blocks_have_names(front_half: Any) -> None:
    found = names(front_half, list(range(40)), 16, 8)
    assert {size: len(keys) for size, keys in found.items()} == {16: 2, 8: 5}
    assert names(front_half, [1, 2], 16) == {16: []}
    assert len({key for keys in found.values() for key in keys}) == 7


async def test_prompts_with_the_same_beginning_share_its_names(front_half: Any) -> None:
    one = names(front_half, [1] * 16 + [2] * 16, 8)[8]
    other = names(front_half, [1] * 16 + [3] * 8 + [2] * 8, 8, request_id="other")[8]
    assert one[:2] == other[:2]
    assert not set(one[2:]) & set(other[2:])


async def test_a_salt_makes_other_names(front_half: Any) -> None:
    plain = names(front_half, [1] * 16, 8)[8]
    salted = names(front_half, [1] * 16, 8, cache_salt="mine")[8]
    assert not set(plain) & set(salted)
    assert salted == names(front_half, [1] * 16, 8, cache_salt="mine")[8]
