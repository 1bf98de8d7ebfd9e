"""The pooled cache against one that is too simple to be wrong."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.replay.pooled_cache import PooledCache, block_keys, pooled_hits
from loadtest.replay.prompt_maker import PromptMaker
from loadtest.replay.trace import Span, TraceRequest

Prompt = tuple[int, ...]


def brute_force(prompts: list[Prompt], num_blocks: int | None) -> list[int]:
    """Hits of each prompt. Held prefixes with the time of their last use, the oldest to go."""
    used: dict[Prompt, tuple[int, int]] = {}
    hits = []
    for now, prompt in enumerate(prompts):
        prefixes = [prompt[: end + 1] for end in range(len(prompt))]
        held = [prefix in used for prefix in prefixes]
        hits.append(held.index(False) if False in held else len(held))
        # What lies beyond the cache's size never enters it.
        for prefix in prefixes[:num_blocks]:
            used[prefix] = (now, -len(prefix))
        while num_blocks is not None and len(used) > num_blocks:
            del used[min(used, key=lambda prefix: used[prefix])]
    return hits


@given(
    st.lists(st.lists(st.integers(0, 2), max_size=6).map(tuple), max_size=30),
    st.one_of(st.none(), st.integers(1, 12)),
)
def test_hits_are_those_of_brute_force(prompts: list[Prompt], num_blocks: int | None) -> None:
    cache = PooledCache(num_blocks)
    keys = [[hash(prompt[: end + 1]) for end in range(len(prompt))] for prompt in prompts]
    assert [cache.take(each) for each in keys] == brute_force(prompts, num_blocks)
    assert num_blocks is None or len(cache) <= num_blocks


def test_the_end_of_a_prompt_goes_first() -> None:
    cache = PooledCache(3)
    assert [cache.take(keys) for keys in ([1, 2, 3], [9], [1, 2, 3])] == [0, 0, 2]


def test_a_key_names_its_block_and_all_before_it() -> None:
    maker = PromptMaker()
    one, other = (
        block_keys(maker.tokens(TraceRequest(0, (Span(key, 8), Span(5, 10)), 1)), 4)
        for key in (1, 2)
    )
    assert len(one) == 4
    assert not set(one) & set(other)
    assert block_keys(maker.span_tokens(Span(1, 8)), 4) == one[:2]


def test_hits_are_whole_blocks_and_never_the_last_token() -> None:
    trace = [TraceRequest(0, (Span(1, size),), 1) for size in (32, 32, 40)]
    hits = pooled_hits(trace, PromptMaker(), 100, 16)
    assert hits.unbounded == hits.bounded == pytest.approx((0 + 16 + 32) / 104)


def test_a_small_pool_forgets() -> None:
    trace = [TraceRequest(0, (Span(key, 33),), 1) for key in (1, 2, 1, 2)]
    hits = pooled_hits(trace, PromptMaker(), 3, 16)
    assert hits.unbounded == pytest.approx(2 * 32 / 132)
    # Of two prompts' four blocks the end of the older one has gone.
    assert hits.bounded == pytest.approx((16 + 16) / 132)
    assert pooled_hits(trace, PromptMaker(), None, 16).bounded is None
