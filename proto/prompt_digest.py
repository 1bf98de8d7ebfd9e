"""A digest of everything that decides a prompt's KV."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Sequence
from typing import Protocol

from proto.canonical import Value, encode

DIGEST_BYTES = 32


class Adapter(Protocol):
    @property
    def lora_name(self) -> str: ...


class Position(Protocol):
    @property
    def offset(self) -> int: ...
    @property
    def length(self) -> int: ...


class Feature(Protocol):
    """An image, a sound or a video. `identifier` is a hash of it, under its LoRA adapter."""

    @property
    def identifier(self) -> str: ...
    @property
    def mm_position(self) -> Position: ...


class Prompt(Protocol):
    """The part of vLLM's EngineCoreRequest that decides the KV, prompt embeddings apart."""

    @property
    def prompt_token_ids(self) -> Sequence[int] | None: ...
    @property
    def mm_features(self) -> Sequence[Feature] | None: ...
    @property
    def lora_request(self) -> Adapter | None: ...
    @property
    def cache_salt(self) -> str | None: ...


def prompt_digest(prompt: Prompt) -> bytes:
    """SHA-256 of its tokens, LoRA adapter, cache salt and multimodal inputs in their places.

    Raises OverflowError for a token id beyond 63 bits.
    """
    lora = prompt.lora_request
    values: list[Value] = [
        tokens_of(prompt),
        lora.lora_name if lora is not None else "",
        prompt.cache_salt or "",
    ]
    for feature in prompt.mm_features or ():
        where = feature.mm_position
        values += [feature.identifier, where.offset, where.length]
    return hashlib.sha256(encode(values)).digest()


def tokens_of(prompt: Prompt) -> bytes:
    """Eight bytes each, the lowest first."""
    tokens = array("q", prompt.prompt_token_ids or ())
    if sys.byteorder == "big":
        tokens.byteswap()
    return tokens.tobytes()
