"""What stands for KV: a digest of all tokens up to a place.

It is a polynomial over the tokens, modulo 2**64. So it grows by any number of tokens at
once, chunks do not show in it, and the last tokens can be taken back out of it.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.uint64]

MASK = (1 << 64) - 1
MULTIPLIER = 0xD1342543DE82EF95
INVERSE = pow(MULTIPLIER, -1, 1 << 64)
# Of a context without tokens.
START = 0x9E3779B97F4A7C15
STRETCH = 4096


def powers(count: int) -> Tokens:
    """MULTIPLIER to the powers of `count` - 1 down to 0."""
    found = [pow(MULTIPLIER, exponent, 1 << 64) for exponent in range(count)]
    return np.array(found[::-1], dtype=np.uint64)


POWERS = powers(STRETCH)


def absorb(digest: int, tokens: Tokens) -> int:
    """The digest after these tokens as well."""
    for start in range(0, len(tokens), STRETCH):
        part = tokens[start : start + STRETCH]
        weighed = int(np.dot(part + np.uint64(1), POWERS[-len(part) :]))
        digest = (digest * pow(MULTIPLIER, len(part), 1 << 64) + weighed) & MASK
    return digest


def absorb_one(digest: int, token: int) -> int:
    return (digest * MULTIPLIER + token + 1) & MASK


def without(digest: int, last_tokens: Iterable[int]) -> int:
    """The digest before `last_tokens`, which are named from the last one on."""
    for token in last_tokens:
        digest = ((digest - token - 1) * INVERSE) & MASK
    return digest


def spoil(digest: int, other: int) -> int:
    """What is read of KV that does not belong together: neither of the two."""
    return (digest * 3 + other * 5 + 7) & MASK
