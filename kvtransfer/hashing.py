"""Hashes of a payload of 64 bits: one for processors, one that a GPU computes as well."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import xxhash

from kvtransfer.staging import Slot

WORD_BYTES = 8
GOLDEN = 0x9E3779B97F4A7C15  # 2**64 over the golden ratio: successive multiples differ well
_MASK = (1 << 64) - 1


class Hashing(IntEnum):
    """XXH3 (https://xxhash.com), or the sum of all words times odd weights, modulo 2**64: the
    multilinear hashing of arXiv:1202.4961 with weights that follow from the seed.
    """

    XXH3 = 0
    MULTILINEAR = 1


def hash_of(payload: Slot, hashing: Hashing, seed: int) -> int:
    """Of a payload in ordinary memory."""
    if hashing is Hashing.XXH3:
        return xxhash.xxh3_64_intdigest(np.ascontiguousarray(payload).data, seed)
    rest = -len(payload) % WORD_BYTES
    words = np.pad(payload, (0, rest)).view(np.uint64)
    steps = np.arange(len(words), dtype=np.uint64) * np.uint64(GOLDEN)
    weights = (steps + np.uint64(seed & _MASK)) | np.uint64(1)
    return int((words * weights).sum(dtype=np.uint64))
