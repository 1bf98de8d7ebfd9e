"""The compiled half of `BlockTable`: loops over its arrays.

An open-addressing hash table of 64-bit keys with linear probing and no tombstones (Knuth, The Art
of Computer Programming, vol. 3, 6.4, algorithms L and R). The value of a key says who holds the
block: one holder, a record of up to FEW of them, or bits for every worker. A holder is
`worker * NUM_TIERS + tier`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

NUM_TIERS = 4
HOST, DISK = 1, 2
FEW = 7
# With so many left, bits become a record again.
FEW_AGAIN = 4
WORD_BITS = 64
# Blocks that are looked up before any of them is looked at.
CHUNK = 256
# Of the slots, so many in 8 are in use at most.
MOST_EIGHTHS = 5

_FREE = np.uint64(0)
_ONE = np.uint64(1)
_ALL = ~np.uint64(0)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_KIND_FEW = np.uint32(1 << 30)
_KIND_MANY = np.uint32(1 << 31)
_INDEX = np.uint32((1 << 30) - 1)

# In compiled code a number is one of the machine's, whatever Python calls it.
Integer = Any

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Once for each machine: the result is kept beside this file, or in the user's cache."""
    return cast("Callable[P, R]", njit(cache=True, nogil=True)(function))


class State(NamedTuple):
    """`few[i]` is a number of holders and then these; `many[i, word, tier]` has a bit for each
    worker, and `many_sizes[i]` of them are set. The first `sizes[NUM_FREE_FEW]` of `free_few`
    are the records that are free, and likewise for `many`. `counts` is how many blocks each
    holder holds.
    """

    keys: NDArray[np.uint64]
    values: NDArray[np.uint32]
    few: NDArray[np.uint16]
    free_few: NDArray[np.int32]
    many: NDArray[np.uint64]
    many_sizes: NDArray[np.int32]
    free_many: NDArray[np.int32]
    counts: NDArray[np.int64]
    sizes: NDArray[np.int64]


# Places in `sizes`.
NUM_USED = 0
NUM_FREE_FEW = 1
NUM_FREE_MANY = 2


@compiled
def add(state: State, hashes: NDArray[np.uint64], holder: Integer) -> int:
    """How many are done: it stops before one that there might be no room for."""
    most = len(state.keys) * MOST_EIGHTHS // 8
    sizes = state.sizes
    for number in range(len(hashes)):
        if sizes[NUM_USED] >= most or not sizes[NUM_FREE_FEW] or not sizes[NUM_FREE_MANY]:
            return number
        slot = _slot_for(state.keys, hashes[number])
        if state.keys[slot] == _FREE:
            state.keys[slot] = hashes[number]
            state.values[slot] = np.uint32(holder)
            sizes[NUM_USED] += 1
            state.counts[holder] += 1
        else:
            state.counts[holder] += _join(state, slot, holder)
    return len(hashes)


@compiled
def remove(state: State, hashes: NDArray[np.uint64], holder: Integer) -> None:
    for number in range(len(hashes)):
        slot = _slot_for(state.keys, hashes[number])
        if state.keys[slot] != _FREE:
            _leave(state, slot, holder)


@compiled
def purge(state: State, holder: Integer, first: int, end: int) -> None:
    """Takes `holder` out of the slots from `first` to before `end`."""
    for slot in range(first, end):
        while state.keys[slot] != _FREE and _leave(state, slot, holder):
            pass


@compiled
def held(state: State, holder: Integer, found: NDArray[np.uint64]) -> int:
    """Writes what `holder` holds, as far as there is room, and returns how much that is."""
    number = 0
    for slot in range(len(state.keys)):
        if number < len(found) and state.keys[slot] != _FREE and _holds(state, slot, holder):
            found[number] = state.keys[slot]
            number += 1
    return number


@compiled
def held_from_first(state: State, hashes: NDArray[np.uint64], holder: Integer) -> int:
    """How many of these, from the first on, `holder` holds."""
    for number in range(len(hashes)):
        slot = _slot_for(state.keys, hashes[number])
        if state.keys[slot] == _FREE or not _holds(state, slot, holder):
            return number
    return len(hashes)


@compiled
def move_all(state: State, keys: NDArray[np.uint64], values: NDArray[np.uint32]) -> None:
    """Into a larger table that is empty."""
    for old in range(len(state.keys)):
        if state.keys[old] != _FREE:
            slot = _slot_for(keys, state.keys[old])
            keys[slot] = state.keys[old]
            values[slot] = state.values[old]


@compiled
def find(state: State, hashes: NDArray[np.uint64], values: NDArray[np.uint32]) -> int:
    """Writes the value of each until one is missing, and returns how many there are.

    Nothing else happens in this loop, so that the processor fetches many slots at once.
    """
    for number in range(len(hashes)):
        slot = _slot_for(state.keys, hashes[number])
        if state.keys[slot] == _FREE:
            return number
        values[number] = state.values[slot]
    return len(hashes)


@compiled
def match(
    state: State,
    hashes: NDArray[np.uint64],
    on_device: NDArray[np.int32],
    anywhere: NDArray[np.int32],
) -> None:
    """For each worker, how many blocks from the first it holds. Both results are zero before."""
    num_words = state.many.shape[1]
    near, far = np.full(num_words, _ALL), np.full(num_words, _ALL)
    device, either = np.zeros(num_words, np.uint64), np.zeros(num_words, np.uint64)
    values = np.empty(min(len(hashes), CHUNK), np.uint32)
    before = ~np.uint32(0)
    for first in range(0, len(hashes), CHUNK):
        chunk = hashes[first : first + CHUNK]
        num_found = find(state, chunk, values)
        for place in range(num_found):
            if values[place] == before:
                continue
            before = values[place]
            if before & _KIND_MANY:
                _read_many(state.many[np.int64(before & _INDEX)], far, device, either)
            else:
                _read_few(state.few, before, device, either)
            any_left = np.uint64(0)
            for word in range(num_words):
                if far[word]:
                    _end(near, device[word], word, on_device, first + place)
                    _end(far, either[word], word, anywhere, first + place)
                    any_left |= far[word]
            if not any_left:
                return
        if num_found < len(chunk):
            _end_all(near, on_device, first + num_found)
            _end_all(far, anywhere, first + num_found)
            return
    _end_all(near, on_device, len(hashes))
    _end_all(far, anywhere, len(hashes))


@compiled
def _home(key: Integer, mask: Integer) -> Integer:
    mixed = key * _MIX
    return (mixed ^ (mixed >> _HALF)) & mask


@compiled
def _slot_for(keys: NDArray[np.uint64], key: Integer) -> Integer:
    """Where it is, or where it would be."""
    mask = np.uint64(len(keys) - 1)
    slot = _home(key, mask)
    while keys[slot] != _FREE and keys[slot] != key:
        slot = (slot + _ONE) & mask
    return slot


@compiled
def _erase(state: State, slot: Integer) -> None:
    """Frees a slot; what was pushed beyond it moves up."""
    mask = np.uint64(len(state.keys) - 1)
    hole = place = np.uint64(slot)
    while True:
        place = (place + _ONE) & mask
        if state.keys[place] == _FREE:
            break
        pushed_by = (place - _home(state.keys[place], mask)) & mask
        if pushed_by >= ((place - hole) & mask):
            state.keys[hole] = state.keys[place]
            state.values[hole] = state.values[place]
            hole = place
    state.keys[hole] = _FREE


@compiled
def _join(state: State, slot: Integer, holder: Integer) -> int:
    """1 if `holder` is new to the block, 0 if it held it."""
    value = state.values[slot]
    index = np.int64(value & _INDEX)
    if value & _KIND_MANY:
        if not _set_bit(state.many, index, holder):
            return 0
        state.many_sizes[index] += 1
        return 1
    if not value & _KIND_FEW:
        if index == holder:
            return 0
        record = _take(state.free_few, state.sizes, NUM_FREE_FEW)
        state.few[record, 0] = 2
        state.few[record, 1] = index
        state.few[record, 2] = holder
        state.values[slot] = _KIND_FEW | np.uint32(record)
        return 1
    size = np.int64(state.few[index, 0])
    for place in range(1, size + 1):
        if state.few[index, place] == holder:
            return 0
    if size < FEW:
        state.few[index, 0] = size + 1
        state.few[index, size + 1] = holder
        return 1
    bits = _take(state.free_many, state.sizes, NUM_FREE_MANY)
    state.many[bits] = np.uint64(0)
    for place in range(1, size + 1):
        _set_bit(state.many, bits, np.int64(state.few[index, place]))
    _set_bit(state.many, bits, holder)
    state.many_sizes[bits] = size + 1
    _give_back(state.free_few, state.sizes, NUM_FREE_FEW, index)
    state.values[slot] = _KIND_MANY | np.uint32(bits)
    return 1


@compiled
def _leave(state: State, slot: Integer, holder: Integer) -> bool:
    """True if the slot has another key now, or none."""
    value = state.values[slot]
    index = np.int64(value & _INDEX)
    if value & _KIND_MANY:
        _leave_many(state, slot, index, holder)
        return False
    if value & _KIND_FEW:
        _leave_few(state, slot, index, holder)
        return False
    if index != holder:
        return False
    state.counts[holder] -= 1
    state.sizes[NUM_USED] -= 1
    _erase(state, slot)
    return True


@compiled
def _leave_few(state: State, slot: Integer, index: Integer, holder: Integer) -> None:
    size = np.int64(state.few[index, 0])
    for place in range(1, size + 1):
        if state.few[index, place] == holder:
            state.counts[holder] -= 1
            state.few[index, place] = state.few[index, size]
            state.few[index, 0] = size - 1
            if size == 2:
                state.values[slot] = np.uint32(state.few[index, 1])
                _give_back(state.free_few, state.sizes, NUM_FREE_FEW, index)
            return


@compiled
def _leave_many(state: State, slot: Integer, index: Integer, holder: Integer) -> None:
    worker, tier = holder // NUM_TIERS, holder % NUM_TIERS
    bit = _ONE << np.uint64(worker % WORD_BITS)
    if not state.many[index, worker // WORD_BITS, tier] & bit:
        return
    state.counts[holder] -= 1
    state.many[index, worker // WORD_BITS, tier] ^= bit
    state.many_sizes[index] -= 1
    if state.many_sizes[index] > FEW_AGAIN or not state.sizes[NUM_FREE_FEW]:
        return
    record = _take(state.free_few, state.sizes, NUM_FREE_FEW)
    state.few[record, 0] = state.many_sizes[index]
    place = 0
    for word in range(state.many.shape[1]):
        for each in range(NUM_TIERS):
            left = state.many[index, word, each]
            while left:
                place += 1
                low = left & (~left + _ONE)
                left ^= low
                found = word * WORD_BITS + _place_of(low)
                state.few[record, place] = found * NUM_TIERS + each
    _give_back(state.free_many, state.sizes, NUM_FREE_MANY, index)
    state.values[slot] = _KIND_FEW | np.uint32(record)


@compiled
def _holds(state: State, slot: Integer, holder: Integer) -> bool:
    value = state.values[slot]
    index = np.int64(value & _INDEX)
    if value & _KIND_MANY:
        worker, tier = holder // NUM_TIERS, holder % NUM_TIERS
        bit = _ONE << np.uint64(worker % WORD_BITS)
        return bool(state.many[index, worker // WORD_BITS, tier] & bit)
    if not value & _KIND_FEW:
        return bool(index == holder)
    for place in range(1, np.int64(state.few[index, 0]) + 1):
        if state.few[index, place] == holder:
            return True
    return False


@compiled
def _take(free: NDArray[np.int32], sizes: NDArray[np.int64], which: int) -> Integer:
    sizes[which] -= 1
    return np.int64(free[sizes[which]])


@compiled
def _give_back(
    free: NDArray[np.int32], sizes: NDArray[np.int64], which: int, index: Integer
) -> None:
    free[sizes[which]] = index
    sizes[which] += 1


@compiled
def _set_bit(many: NDArray[np.uint64], index: Integer, holder: Integer) -> bool:
    """False if it was set."""
    worker, tier = holder // NUM_TIERS, holder % NUM_TIERS
    bit = _ONE << np.uint64(worker % WORD_BITS)
    if many[index, worker // WORD_BITS, tier] & bit:
        return False
    many[index, worker // WORD_BITS, tier] |= bit
    return True


@compiled
def _read_many(
    bits: NDArray[np.uint64],
    wanted: NDArray[np.uint64],
    device: NDArray[np.uint64],
    either: NDArray[np.uint64],
) -> None:
    """Who holds a block on its device, or is expected to, and who holds it at all. Only the words
    where anybody is `wanted`.
    """
    for word in range(len(bits)):
        if wanted[word]:
            device[word] = bits[word, 0] | bits[word, 3]
            either[word] = device[word] | bits[word, HOST] | bits[word, DISK]


@compiled
def _read_few(
    few: NDArray[np.uint16],
    value: Integer,
    device: NDArray[np.uint64],
    either: NDArray[np.uint64],
) -> None:
    device[:] = 0
    either[:] = 0
    index = np.int64(value & _INDEX)
    if not value & _KIND_FEW:
        _note(device, either, index)
        return
    for place in range(1, np.int64(few[index, 0]) + 1):
        _note(device, either, np.int64(few[index, place]))


@compiled
def _note(device: NDArray[np.uint64], either: NDArray[np.uint64], holder: Integer) -> None:
    worker, tier = holder // NUM_TIERS, holder % NUM_TIERS
    bit = _ONE << np.uint64(worker % WORD_BITS)
    either[worker // WORD_BITS] |= bit
    if tier not in (HOST, DISK):
        device[worker // WORD_BITS] |= bit


@compiled
def _end(
    alive: NDArray[np.uint64],
    holding: Integer,
    word: Integer,
    lengths: NDArray[np.int32],
    number: Integer,
) -> None:
    """Those that do not hold block `number` have come to their end."""
    gone = alive[word] & ~holding
    alive[word] &= holding
    if number:
        _write(gone, word, lengths, number)


@compiled
def _end_all(alive: NDArray[np.uint64], lengths: NDArray[np.int32], number: Integer) -> None:
    if number:
        for word in range(len(alive)):
            _write(alive[word], word, lengths, number)


@compiled
def _write(bits: Integer, word: Integer, lengths: NDArray[np.int32], number: Integer) -> None:
    while bits:
        low = bits & (~bits + _ONE)
        bits ^= low
        lengths[word * WORD_BITS + _place_of(low)] = number


@compiled
def _place_of(bit: Integer) -> int:
    """Of the only bit that is set."""
    place = 0
    for width in (32, 16, 8, 4, 2, 1):
        if bit >> np.uint64(width):
            place += width
            bit >>= np.uint64(width)
    return place
