"""What this gateway has open on one worker."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Booked:
    """What this gateway has open on one worker: legs, those without a token yet, prompts still to
    be computed there and their tokens, the seconds that was predicted to take, and KV promised.
    Of the prompts, how many are longer than a step, and the tokens of the others.
    """

    num_legs: int = 0
    num_starting: int = 0
    num_prefills: int = 0
    prefill_tokens: int = 0
    prefill_seconds: float = 0.0
    kv_tokens: int = 0
    num_long: int = 0
    short_tokens: int = 0


NOTHING = Booked()
