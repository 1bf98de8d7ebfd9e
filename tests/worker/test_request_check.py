from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from worker.errors import BadRequest
from worker.request_check import RequestLimits

LIMITS = RequestLimits(max_model_len=8, vocab_size=100)


@dataclass(frozen=True)
class Sampling:
    max_tokens: int | None = 1


@dataclass(frozen=True)
class Request:
    prompt_token_ids: list[int] | None = field(default_factory=lambda: [0, 99])
    prompt_embeds: object | None = None
    mm_features: list[object] | None = None
    lora_request: object | None = None
    pooling_params: object | None = None
    sampling_params: Sampling | None = field(default_factory=Sampling)
    resumable: bool = False


def test_an_ordinary_request_passes() -> None:
    LIMITS.check(Request())
    LIMITS.check(Request(prompt_token_ids=[1] * 7))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        pytest.param(Request(prompt_token_ids=[]), "empty", id="no prompt"),
        pytest.param(Request(prompt_token_ids=None), "empty", id="no token ids"),
        pytest.param(Request(prompt_token_ids=[1] * 8), "no room", id="too long"),
        pytest.param(Request(prompt_token_ids=[100]), "vocabulary", id="unknown token"),
        pytest.param(Request(prompt_token_ids=[-1]), "vocabulary", id="negative token"),
        pytest.param(Request(sampling_params=None), "max_tokens", id="no sampling"),
        pytest.param(Request(sampling_params=Sampling(None)), "max_tokens", id="endless"),
        pytest.param(Request(sampling_params=Sampling(-1)), "max_tokens", id="negative"),
        pytest.param(Request(pooling_params=object()), "pooling", id="pooling"),
        pytest.param(Request(prompt_embeds=object()), "embeddings", id="embeddings"),
        pytest.param(Request(mm_features=[object()]), "images", id="multimodal"),
        pytest.param(Request(lora_request=object()), "LoRA", id="lora"),
        pytest.param(Request(resumable=True), "several turns", id="resumable"),
    ],
)
def test_what_would_harm_the_engine_is_refused(request_: Request, reason: str) -> None:
    with pytest.raises(BadRequest, match=reason):
        LIMITS.check(request_)


def test_an_engine_that_can_take_more_gets_more() -> None:
    limits = replace(LIMITS, takes_embeds=True, takes_multimodal=True, takes_lora=True)
    limits.check(Request(prompt_token_ids=None, prompt_embeds=object()))
    limits.check(Request(mm_features=[object()], lora_request=object()))


def test_no_token_of_a_prompt_enters_the_error() -> None:
    with pytest.raises(BadRequest) as refused:
        LIMITS.check(Request(prompt_token_ids=[4711]))
    assert "4711" not in str(refused.value)
