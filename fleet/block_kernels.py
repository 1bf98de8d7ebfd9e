"""The compiled half of `BlockTable`: loops over its arrays.

An open-addressing hash table of 64-bit keys with linear probing and no tombstones (Knuth, The Art
of Computer Programming, vol. 3, 6.4, algorithms L and R). The value of a key says who holds the
block: one holder, a record of up to FEW of them, or bits for every worker. A holder is
`worker * NUM_TIERS + tier`.

Blocks that the same many hold share their bits, so that a prompt that half the fleet holds is a few
records and not one for each block. Such a set is found by the exclusive or of a number for each of
its holders (Zobrist, A New Hashing Method with Application for Game Playing, 1970).

All in one file: a compiled function that is kept on disk does not see changes in another.
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
_KIND = _KIND_FEW | _KIND_MANY
_INDEX = ~_KIND

# In compiled code a number is one of the machine's, whatever Python calls it.
Integer = Any

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Once for each machine: the result is kept beside this file, or in the user's cache.

    Without counts of the references to arrays, which took most of the time: a State has fourteen.
    So nothing here makes an array.
    """
    return cast("Callable[P, R]", njit(cache=True, nogil=True, _nrt=False)(function))


class State(NamedTuple):
    """`few[i]` is a number of holders and then these; `many[i, word, tier]` has a bit for each
    worker, of which `many_sizes[i]` are set, and `many_blocks[i]` blocks have this set. The first
    `sizes[NUM_FREE_FEW]` of `free_few` are the records that are free, and likewise for `many`.
    `set_values` has the set of each of `set_keys`; `many_keys[i]` is that key. `counts` is how
    many blocks each holder holds.
    """

    keys: NDArray[np.uint64]
    values: NDArray[np.uint32]
    few: NDArray[np.uint16]
    free_few: NDArray[np.int32]
    many: NDArray[np.uint64]
    many_sizes: NDArray[np.int32]
    many_blocks: NDArray[np.int32]
    many_keys: NDArray[np.uint64]
    free_many: NDArray[np.int32]
    set_keys: NDArray[np.uint64]
    set_values: NDArray[np.uint32]
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
    before = after = np.uint32(0)
    for number in range(len(hashes)):
        if state.sizes[NUM_USED] >= most or not _has_records(state.sizes):
            return number
        slot = _slot_for(state.keys, hashes[number])
        value = state.values[slot]
        if state.keys[slot] == _FREE:
            state.keys[slot] = hashes[number]
            state.values[slot] = np.uint32(holder)
            state.sizes[NUM_USED] += 1
            state.counts[holder] += 1
        elif value & _KIND_MANY and value == before:
            # A neighbour had the same set, and is known to have another now.
            state.many_blocks[np.int64(after & _INDEX)] += 1
            _end_block(state, np.int64(before & _INDEX))
            state.values[slot] = after
            state.counts[holder] += 1
        elif _join(state, slot, holder):
            state.counts[holder] += 1
            after = state.values[slot]
            before = value if value != after else np.uint32(0)
    return len(hashes)


@compiled
def remove(state: State, hashes: NDArray[np.uint64], holder: Integer) -> int:
    """How many are done: it stops before one that there might be no room for."""
    for number in range(len(hashes)):
        if not _has_records(state.sizes):
            return number
        slot = _slot_for(state.keys, hashes[number])
        if state.keys[slot] != _FREE:
            _leave(state, slot, holder)
    return len(hashes)


@compiled
def purge(state: State, holder: Integer, first: int, end: int) -> int:
    """Takes `holder` out of the slots from `first` to before `end`. Returns where it stopped:
    before one that there might be no room for, or at the end.
    """
    for slot in range(first, end):
        if not _has_records(state.sizes):
            return slot
        while state.keys[slot] != _FREE and _leave(state, slot, holder):
            pass
    return end


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
def index_sets(state: State, set_keys: NDArray[np.uint64], set_values: NDArray[np.uint32]) -> None:
    """Into a larger table that is empty."""
    for record in range(len(state.many)):
        if state.many_blocks[record]:
            _name_set(set_keys, set_values, state.many_keys[record], record)


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
    bits: NDArray[np.uint64],
    values: NDArray[np.uint32],
) -> None:
    """For each worker, how many blocks from the first it holds. Both results are zero before.

    Room to work: four rows of `bits`, with a word for each of `state.many`'s, and CHUNK `values`.
    """
    num_words = state.many.shape[1]
    near, far, device, either = bits[0], bits[1], bits[2], bits[3]
    near[:] = _ALL
    far[:] = _ALL
    before = ~np.uint32(0)
    for first in range(0, len(hashes), CHUNK):
        chunk = hashes[first : first + CHUNK]
        num_found = find(state, chunk, values)
        for place in range(num_found):
            if _is_same(state.few, values[place], before):
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
def _is_same(few: NDArray[np.uint16], value: Integer, other: Integer) -> bool:
    """The same holders, for all that is seen at a glance."""
    if value == other:
        return True
    if value & _KIND != _KIND_FEW or other & _KIND != _KIND_FEW:
        return False
    record, before = few[np.int64(value & _INDEX)], few[np.int64(other & _INDEX)]
    size, place = int(record[0]), 0
    while place <= size and record[place] == before[place]:
        place += 1
    return place > size


@compiled
def _has_records(sizes: NDArray[np.int64]) -> bool:
    """One of each kind is free: no change of one block takes more."""
    return bool(sizes[NUM_FREE_FEW] and sizes[NUM_FREE_MANY])


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
def _erase(keys: NDArray[np.uint64], values: NDArray[np.uint32], slot: Integer) -> None:
    """Frees a slot; what was pushed beyond it moves up."""
    mask = np.uint64(len(keys) - 1)
    hole = place = np.uint64(slot)
    while True:
        place = (place + _ONE) & mask
        if keys[place] == _FREE:
            break
        pushed_by = (place - _home(keys[place], mask)) & mask
        if pushed_by >= ((place - hole) & mask):
            keys[hole] = keys[place]
            values[hole] = values[place]
            hole = place
    keys[hole] = _FREE


@compiled
def _join(state: State, slot: Integer, holder: Integer) -> int:
    """1 if `holder` is new to the block, 0 if it held it."""
    value = state.values[slot]
    index = np.int64(value & _INDEX)
    if value & _KIND_MANY:
        if _has_bit(state.many, index, holder):
            return 0
        state.values[slot] = _KIND_MANY | np.uint32(_turned(state, index, holder))
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
    record = _many_of(state, state.few[index, 1 : size + 1], holder)
    _give_back(state.free_few, state.sizes, NUM_FREE_FEW, index)
    state.values[slot] = _KIND_MANY | np.uint32(record)
    return 1


@compiled
def _many_of(state: State, few: NDArray[np.uint16], holder: Integer) -> Integer:
    """The set of these and one more, for one block more."""
    key = _number_of(holder)
    for place in range(len(few)):
        key ^= _number_of(np.int64(few[place]))
    found = _slot_for(state.set_keys, key)
    if state.set_keys[found] != _FREE:
        record = np.int64(state.set_values[found])
        state.many_blocks[record] += 1
        return record
    record = _take(state.free_many, state.sizes, NUM_FREE_MANY)
    state.many[record] = np.uint64(0)
    for place in range(len(few)):
        _turn_bit(state.many, record, np.int64(few[place]))
    _turn_bit(state.many, record, holder)
    state.many_sizes[record] = len(few) + 1
    _begin_set(state, key, record)
    return record


@compiled
def _turned(state: State, index: Integer, holder: Integer) -> Integer:
    """The set that one block of set `index` has from now on: with `holder` if it was without, and
    the other way round.
    """
    key = state.many_keys[index] ^ _number_of(holder)
    found = _slot_for(state.set_keys, key)
    if state.set_keys[found] != _FREE:
        record = np.int64(state.set_values[found])
        state.many_blocks[record] += 1
        _end_block(state, index)
        return record
    if state.many_blocks[index] == 1:
        record = index
        _forget_set(state, index)
    else:
        record = _take(state.free_many, state.sizes, NUM_FREE_MANY)
        for word in range(state.many.shape[1]):
            for tier in range(NUM_TIERS):
                state.many[record, word, tier] = state.many[index, word, tier]
        state.many_sizes[record] = state.many_sizes[index]
        state.many_blocks[index] -= 1
    state.many_sizes[record] += 1 if _turn_bit(state.many, record, holder) else -1
    _begin_set(state, key, record)
    return record


@compiled
def _begin_set(state: State, key: Integer, record: Integer) -> None:
    """One block has it."""
    state.many_keys[record] = key
    state.many_blocks[record] = 1
    _name_set(state.set_keys, state.set_values, key, record)


@compiled
def _name_set(
    set_keys: NDArray[np.uint64], set_values: NDArray[np.uint32], key: Integer, record: Integer
) -> None:
    slot = _slot_for(set_keys, key)
    set_keys[slot] = key
    set_values[slot] = np.uint32(record)


@compiled
def _forget_set(state: State, index: Integer) -> None:
    slot = _slot_for(state.set_keys, state.many_keys[index])
    _erase(state.set_keys, state.set_values, slot)


@compiled
def _end_block(state: State, index: Integer) -> None:
    """One block less has it."""
    state.many_blocks[index] -= 1
    if not state.many_blocks[index]:
        _forget_set(state, index)
        _give_back(state.free_many, state.sizes, NUM_FREE_MANY, index)


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
    _erase(state.keys, state.values, slot)
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
    if not _has_bit(state.many, index, holder):
        return
    state.counts[holder] -= 1
    if state.many_sizes[index] > FEW_AGAIN + 1:
        state.values[slot] = _KIND_MANY | np.uint32(_turned(state, index, holder))
        return
    record = _take(state.free_few, state.sizes, NUM_FREE_FEW)
    _write_few(state.few[record], state.many[index], holder)
    _end_block(state, index)
    state.values[slot] = _KIND_FEW | np.uint32(record)


@compiled
def _write_few(record: NDArray[np.uint16], bits: NDArray[np.uint64], but: Integer) -> None:
    """The holders that `bits` say, without one."""
    size = 0
    for word in range(len(bits)):
        for tier in range(NUM_TIERS):
            left = bits[word, tier]
            while left:
                low = left & (~left + _ONE)
                left ^= low
                holder = (word * WORD_BITS + _place_of(low)) * NUM_TIERS + tier
                if holder != but:
                    size += 1
                    record[size] = holder
    record[0] = size


@compiled
def _holds(state: State, slot: Integer, holder: Integer) -> bool:
    value = state.values[slot]
    index = np.int64(value & _INDEX)
    if value & _KIND_MANY:
        return _has_bit(state.many, index, holder)
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
def _number_of(holder: Integer) -> Integer:
    """A random one, always the same (Steele, Lea and Flood, Fast Splittable Pseudorandom Number
    Generators, 2014: the finalizer of SplitMix64).
    """
    mixed = np.uint64(holder + 1) * _MIX
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


@compiled
def _has_bit(many: NDArray[np.uint64], index: Integer, holder: Integer) -> bool:
    worker, tier = holder // NUM_TIERS, holder % NUM_TIERS
    bit = _ONE << np.uint64(worker % WORD_BITS)
    return bool(many[index, worker // WORD_BITS, tier] & bit)


@compiled
def _turn_bit(many: NDArray[np.uint64], index: Integer, holder: Integer) -> bool:
    """True if it is set now."""
    worker, tier = holder // NUM_TIERS, holder % NUM_TIERS
    bit = _ONE << np.uint64(worker % WORD_BITS)
    many[index, worker // WORD_BITS, tier] ^= bit
    return bool(many[index, worker // WORD_BITS, tier] & bit)


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
