"""What a plain engine answers to the prompts of a suite."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.system.plain_engine import Answer, Questions
from tests.system.prompts import Prompt
from tests.system.reference import collect, merge, num_tokens, running


def plain_answers(
    model: Path, dtype: str, prompts: Sequence[Prompt], logs: Path
) -> Mapping[str, Answer]:
    """By the prompts' names. One engine on each core, and none afterwards."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        engines = [
            stack.enter_context(running(model, core, Questions(dtype, share, ()), log))
            for core, share in zip(cores, shares(prompts, len(cores)), strict=True)
            for log in (logs / f"plain-{core}.log",)
        ]
        return merge([collect(engine) for engine in engines]).prompts


def shares(prompts: Sequence[Prompt], num_engines: int) -> list[tuple[Prompt, ...]]:
    """About the same number of tokens each."""
    each: list[list[Prompt]] = [[] for _ in range(num_engines)]
    for prompt in sorted(prompts, key=lambda prompt: -len(prompt.ids)):
        min(each, key=num_tokens).append(prompt)
    return [tuple(share) for share in each]
