"""Whether a simulated fleet's answers are right, for a replay:

    python -m loadtest.replay TRACE --check tests.suites.sim_answers:complaint

The fleet must stand for the default model. A lost, repeated or foreign block of KV changes every
token after it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache

from baton.model import DEFAULT_MODEL, models_dir
from worker.sim.answer import TokenRange, expected_tokens
from worker.sim.model import token_range


@cache
def answer_tokens() -> TokenRange:
    folder = models_dir(os.environ) / DEFAULT_MODEL
    config = json.loads((folder / "config.json").read_bytes())
    return token_range(folder, config["vocab_size"])


def complaint(prompt: Sequence[int], num_output_tokens: int, answer: Sequence[int]) -> str:
    """Empty if the answer is right."""
    expected = expected_tokens(prompt, num_output_tokens, answer_tokens())
    return "" if list(answer) == expected else "wrong tokens"
