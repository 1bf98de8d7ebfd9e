from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from kvtransfer.hashing import Hashing, hash_of
from kvtransfer.staging import Slot

SEED = 0xFEDCBA9876543210
BOTH = [pytest.param(each, id=each.name.lower()) for each in Hashing]


def payload(num_bytes: int, seed: int = 0) -> Slot:
    return np.random.default_rng(seed).integers(0, 256, num_bytes, np.uint8)


def test_the_first_weights_are_those_of_splitmix64() -> None:
    """Whatever computes the hash, it must be this one; the numbers are those of the paper's
    generator with seed 0.
    """
    numbers = (0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F)
    for index, number in enumerate(numbers):
        one = np.zeros(12, np.uint8)
        one[4 * index] = 1
        assert hash_of(one, Hashing.MULTILINEAR, 0) == number | 1


def test_the_sum_is_over_digits_of_four_bytes() -> None:
    digits = np.array([0xFFFFFFFF, 7], np.uint32)
    weights = (0xE220A8397B1DCDAF + SEED | 1, 0x6E789E6AA1B965F4 + SEED | 1)
    expected = (0xFFFFFFFF * weights[0] + 7 * weights[1]) % 2**64
    assert hash_of(digits.view(np.uint8), Hashing.MULTILINEAR, SEED) == expected


@pytest.mark.parametrize("hashing", BOTH)
@pytest.mark.parametrize("num_bytes", [0, 1, 3, 4, 5, 64, 1000])
def test_any_number_of_bytes_has_a_hash_of_64_bits(hashing: Hashing, num_bytes: int) -> None:
    assert 0 <= hash_of(payload(num_bytes), hashing, SEED) < 2**64


@pytest.mark.parametrize("hashing", BOTH)
def test_another_seed_is_another_hash(hashing: Hashing) -> None:
    assert hash_of(payload(64), hashing, SEED) != hash_of(payload(64), hashing, SEED + 2)


@pytest.mark.parametrize("hashing", BOTH)
def test_two_flipped_bits_are_noticed(hashing: Hashing) -> None:
    """Also where they are the highest of their words, like the signs of bf16."""
    message = payload(32)
    good = hash_of(message, hashing, SEED)
    for pair in combinations(range(8 * len(message)), 2):
        flips = np.zeros(8 * len(message), np.uint8)
        flips[list(pair)] = 1
        assert hash_of(message ^ np.packbits(flips), hashing, SEED) != good


@pytest.mark.parametrize("hashing", BOTH)
@pytest.mark.parametrize("size", [1, 2, 4, 8, 64])
def test_two_exchanged_pieces_are_noticed(hashing: Hashing, size: int) -> None:
    message = np.random.default_rng(0).permutation(16 * size).astype(np.uint8)
    good = hash_of(message, hashing, SEED)
    for one, other in combinations(range(16), 2):
        pieces = message.reshape(16, size).copy()
        pieces[[one, other]] = pieces[[other, one]]
        assert hash_of(pieces.ravel(), hashing, SEED) != good


@pytest.mark.parametrize("hashing", BOTH)
@pytest.mark.parametrize("stride", [1, 2, 4, 8, 32])
def test_changes_that_follow_a_pattern_are_noticed(hashing: Hashing, stride: int) -> None:
    """Differences of 1, -2, 1 vanish under weights that grow evenly."""
    digits = payload(4 * 128).view(np.uint32) >> 1
    good = hash_of(digits.view(np.uint8), hashing, SEED)
    for first in range(len(digits) - 2 * stride):
        bent = digits.copy()
        bent[[first, first + 2 * stride]] += 1
        bent[first + stride] -= 2
        assert hash_of(bent.view(np.uint8), hashing, SEED) != good
