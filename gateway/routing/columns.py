"""What is known of every worker, in arrays: the same place in each is the same worker's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(slots=True)
class Columns:
    """One place per row. `busy_until`: it will have computed the prompts that it was handed;
    `queued_*`: those that wait for it in this gateway; `num_starting`: legs without a token yet.
    Seconds of a step that computes prompts and of each of its tokens, of one that generates and
    of each sequence in it, and what a token of a prompt adds to a step that generates.
    """

    can_prefill: Flags
    can_decode: Flags
    kind: NDArray[np.int32]
    block_size: NDArray[np.int32]
    kv_tokens: Floats
    step_tokens: Floats
    itl_goal: Floats
    num_legs: Floats
    num_prefills: Floats
    prefill_tokens: Floats
    prefill_seconds: Floats
    num_long: Floats
    short_tokens: Floats
    num_starting: Floats
    busy_until: Floats
    queued_seconds: Floats
    num_queued: Floats
    kv_booked: Floats
    kv_foreign: Floats
    num_foreign: Floats
    prefill_step: Floats
    prefill_token: Floats
    decode_step: Floats
    decode_sequence: Floats
    stall_seconds: Floats

    @classmethod
    def of_size(cls, size: int) -> Columns:
        flags = {"can_prefill", "can_decode"}
        whole = {"kind", "block_size"}
        return cls(
            **{
                name: np.zeros(
                    size, bool if name in flags else np.int32 if name in whole else float
                )
                for name in cls.__dataclass_fields__
            }
        )

    def longer(self, size: int) -> Columns:
        grown = Columns.of_size(size)
        for name in self.__dataclass_fields__:
            column = getattr(self, name)
            getattr(grown, name)[: len(column)] = column
        return grown

    def clear(self, row: int) -> None:
        for name in self.__dataclass_fields__:
            getattr(self, name)[row] = 0
