"""The few prompts of a soak, and the many requests made of them."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from tests.system.prompts import BLOCK_SIZE, CHUNK_TOKENS, Prompt, random_ids

# One token is not handed off.
MIN_TOKENS, MAX_TOKENS = 2, 900
ANSWER_TOKENS = (4, 8)
# Where blocks and chunks begin and end.
BORDERS = tuple(
    border + offset
    for border in (BLOCK_SIZE, 2 * BLOCK_SIZE, CHUNK_TOKENS)
    for offset in (-1, 0, 1)
)


def pool(seed: int, number: int) -> tuple[Prompt, ...]:
    """Short ones are likelier than long ones, and some lie at borders."""
    dice = random.Random(seed)
    lengths = [*BORDERS, *(any_length(dice) for _ in range(number - len(BORDERS)))]
    return tuple(
        Prompt(f"soak-{seed}-{i}", random_ids(f"{seed}-{i}", length), dice.randint(*ANSWER_TOKENS))
        for i, length in enumerate(lengths[:number])
    )


def any_length(dice: random.Random) -> int:
    """Each power of two is as likely as the next."""
    return int(math.exp(dice.uniform(math.log(MIN_TOKENS), math.log(MAX_TOKENS))))


def requests(seed: int, prompts: Sequence[Prompt], number: int) -> tuple[Prompt, ...]:
    """Each under a salt of its own, so that nothing of it is cached anywhere."""
    dice = random.Random(f"requests {seed}")
    return tuple(
        replace(dice.choice(prompts), salt=f"soak-{seed}-{count}") for count in range(number)
    )
