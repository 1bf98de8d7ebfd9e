"""What would fail the whole engine, not only the request, and so must not reach it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.errors import BadRequest


class Sampling(Protocol):
    @property
    def max_tokens(self) -> int | None: ...


class EngineRequest(Protocol):
    """The part of vLLM's EngineCoreRequest that is looked at."""

    @property
    def prompt_token_ids(self) -> Sequence[int] | None: ...
    @property
    def prompt_embeds(self) -> object | None: ...
    @property
    def mm_features(self) -> Sequence[object] | None: ...
    @property
    def lora_request(self) -> object | None: ...
    @property
    def pooling_params(self) -> object | None: ...
    @property
    def sampling_params(self) -> Sampling | None: ...
    @property
    def resumable(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """What the engine behind can take. `max_model_len` is in tokens."""

    max_model_len: int
    vocab_size: int
    takes_embeds: bool = False
    takes_multimodal: bool = False
    takes_lora: bool = False

    def check(self, request: EngineRequest) -> None:
        """Raises BadRequest."""
        self._check_kind(request)
        if request.prompt_embeds is None:
            self._check_tokens(request.prompt_token_ids)
        sampling = request.sampling_params
        if sampling is None or not (sampling.max_tokens and sampling.max_tokens > 0):
            raise BadRequest("max_tokens is missing or below 1")

    def _check_kind(self, request: EngineRequest) -> None:
        unsupported = {
            "pooling": request.pooling_params is not None,
            "input in several turns": request.resumable,
            "prompt embeddings": request.prompt_embeds is not None and not self.takes_embeds,
            "images, audio and video": bool(request.mm_features) and not self.takes_multimodal,
            "LoRA": request.lora_request is not None and not self.takes_lora,
        }
        for what, is_asked in unsupported.items():
            if is_asked:
                raise BadRequest(f"{what}: not supported by this worker")

    def _check_tokens(self, prompt: Sequence[int] | None) -> None:
        if not prompt:
            raise BadRequest("the prompt is empty")
        if len(prompt) >= self.max_model_len:
            raise BadRequest(
                f"a prompt of {len(prompt)} tokens leaves no room for an answer: "
                f"prompt and answer together have at most {self.max_model_len}"
            )
        if min(prompt) < 0 or max(prompt) >= self.vocab_size:
            raise BadRequest(f"a token id is outside the vocabulary of {self.vocab_size}")
