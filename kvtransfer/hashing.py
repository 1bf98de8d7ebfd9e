"""Hashes of a payload of 64 bits: one for processors, one that a GPU computes as well."""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache

import numpy as np
import xxhash
from numpy.typing import NDArray

from kvtransfer.staging import Slot

DIGIT_BYTES = 4
_MASK = (1 << 64) - 1


class Hashing(IntEnum):
    """XXH3 (https://xxhash.com), or the sum of all digits of 32 bits times odd weights, modulo
    2**64: the multilinear hashing of arXiv:1202.4961 with weights that follow from the seed.
    """

    XXH3 = 0
    MULTILINEAR = 1


def hash_of(payload: Slot, hashing: Hashing, seed: int) -> int:
    """Of a payload in ordinary memory."""
    if hashing is Hashing.XXH3:
        return xxhash.xxh3_64_intdigest(np.ascontiguousarray(payload).data, seed)
    rest = -len(payload) % DIGIT_BYTES
    digits = np.pad(payload, (0, rest)).view(np.uint32)
    weights = (steps(len(digits)) + np.uint64(seed & _MASK)) | np.uint64(1)
    return int((digits * weights).sum(dtype=np.uint64))


def steps(num_digits: int) -> NDArray[np.uint64]:
    """What the weights of so many digits are before the seed is added."""
    return _steps(1 << (num_digits - 1).bit_length())[:num_digits]


@lru_cache(maxsize=32)
def _steps(number: int) -> NDArray[np.uint64]:
    """The first numbers of SplitMix64 (https://doi.org/10.1145/2714064.2660195) from 0 on."""
    state = np.arange(1, number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
