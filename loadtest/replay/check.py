"""What an answer is checked against: a function of prompt, output length and answer."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

from loadtest.replay.errors import BadInput

# Prompt's tokens, wanted number of tokens, answer's tokens; returns what is wrong, or nothing.
Check = Callable[[Sequence[int], int, Sequence[int]], str]
DEFAULT = "loadtest.replay.check:length"


def length(prompt: Sequence[int], num_output_tokens: int, answer: Sequence[int]) -> str:
    """An answer has as many tokens as it was asked for."""
    return "" if len(answer) == num_output_tokens else "wrong length"


def load_check(name: str) -> Check:
    """By `module:function`. Raises BadInput."""
    module, _, function = name.partition(":")
    try:
        check: Check = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadInput(f"--check {name}: {error}") from error
    return check
