"""Staging slots in a GPU's memory, which UCX reads and writes there (GPUDirect RDMA, CUDA IPC).

The payload never passes through the host; the 64 bytes of header do.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch

from kvtransfer.hashing import DIGIT_BYTES, Hashing, hash_of, steps
from kvtransfer.segment import HEADER_BYTES, Segment, is_sealed
from kvtransfer.staging import Slot

_DIGIT = (1 << 32) - 1
_WORDS = 1 << 64
_SIGN = 1 << 63


def allocator(device: torch.device) -> Any:
    """Makes slots of so many bytes: tensors, which slice and measure as arrays do."""
    return partial(torch.zeros, dtype=torch.uint8, device=device)


class DeviceEnvelope:
    """See `Envelope`. Hashes the payload where it lies, and so by a hash that a GPU is good at.

    Works for tensors in any memory.
    """

    def __init__(self, slot_bytes: int, device: torch.device) -> None:
        numbers = steps(-(-slot_bytes // DIGIT_BYTES)).view(np.int64)
        self._steps = torch.tensor(numbers, device=device)

    def seal(self, segment: Segment, message: Slot, seed: int) -> None:
        segment = replace(segment, hashing=Hashing.MULTILINEAR)
        header = segment.header(self._hash(message[HEADER_BYTES:], seed), seed)
        slot: Any = message
        slot[:HEADER_BYTES].copy_(torch.frombuffer(bytearray(header), dtype=torch.uint8))

    def read(self, message: Slot) -> Segment:
        return Segment.of_header(_header(message), len(message) - HEADER_BYTES)

    def is_intact(self, message: Slot, seed: int) -> bool:
        header, payload = _header(message), message[HEADER_BYTES:]
        if self.read(message).hashing is Hashing.MULTILINEAR:
            return is_sealed(header, self._hash(payload, seed), seed)
        return is_sealed(header, hash_of(_on_host(payload), Hashing.XXH3, seed), seed)

    def _hash(self, payload: Any, seed: int) -> int:
        rest = -len(payload) % DIGIT_BYTES
        padded = torch.nn.functional.pad(payload, (0, rest)) if rest else payload.clone()
        digits = padded.view(torch.int32).to(torch.int64) & _DIGIT
        weights = (self._steps[: len(digits)] + _signed(seed)) | 1
        return int((digits * weights).sum()) % _WORDS


def _header(message: Any) -> bytes:
    return _on_host(message[:HEADER_BYTES]).tobytes()


def _on_host(part: Any) -> Slot:
    array: Slot = part.cpu().numpy()
    return array


def _signed(number: int) -> int:
    return (number + _SIGN) % _WORDS - _SIGN
