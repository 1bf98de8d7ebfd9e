from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto.prompt_digest import DIGEST_BYTES, prompt_digest
from tests.proto.builders import PROMPT, Adapter, Picture, Place, Prompt

TOKENS = st.lists(st.integers(0, 2**40), max_size=6)


@given(TOKENS, TOKENS)
def test_prompts_of_different_tokens_differ(one: list[int], other: list[int]) -> None:
    digests = prompt_digest(Prompt(one)), prompt_digest(Prompt(other))
    assert (digests[0] == digests[1]) == (one == other)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(PROMPT, prompt_token_ids=(1, 2)), id="a token less"),
        pytest.param(replace(PROMPT, prompt_token_ids=(1, 3, 2)), id="another order"),
        pytest.param(replace(PROMPT, prompt_token_ids=None), id="no tokens"),
        pytest.param(replace(PROMPT, lora_request=Adapter("a")), id="an adapter"),
        pytest.param(replace(PROMPT, cache_salt="a"), id="a salt"),
        pytest.param(replace(PROMPT, mm_features=[Picture("a", Place(0, 1))]), id="a picture"),
    ],
)
def test_whatever_decides_the_kv_decides_the_digest(other: Prompt) -> None:
    assert prompt_digest(other) != prompt_digest(PROMPT)


def test_an_adapter_is_no_salt() -> None:
    adapted = replace(PROMPT, lora_request=Adapter("a"))
    assert prompt_digest(adapted) != prompt_digest(replace(PROMPT, cache_salt="a"))


def test_pictures_count_with_their_places() -> None:
    places = (Place(0, 1), Place(0, 2), Place(1, 1))
    prompts = [replace(PROMPT, mm_features=[Picture("a", place)]) for place in places]
    assert len({prompt_digest(prompt) for prompt in prompts}) == 3


def test_what_says_nothing_changes_nothing() -> None:
    silent = Prompt([1, 2, 3], mm_features=[], lora_request=None, cache_salt="")
    assert prompt_digest(silent) == prompt_digest(PROMPT)
    assert len(prompt_digest(PROMPT)) == DIGEST_BYTES


def test_the_digest_is_the_same_on_every_machine() -> None:
    assert prompt_digest(PROMPT).hex().startswith("6ad0f0bf69a69225")
