from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from kvtransfer.connector_device import DeviceEnvelope, allocator
from kvtransfer.envelope import Envelope, HostEnvelope
from kvtransfer.errors import MalformedMessage
from kvtransfer.segment import HEADER_BYTES, Segment
from kvtransfer.staging import Slot
from tests.kvtransfer.builders import SEAL, make_segment, make_ticket

CPU = torch.device("cpu")
SEED = SEAL.seed(make_ticket())
NUM_BYTES = HEADER_BYTES + make_segment().payload_bytes


class End:
    """An envelope and slots of its kind, whose bytes are put in and taken out."""

    def __init__(self, is_device: bool) -> None:
        self.envelope: Envelope = DeviceEnvelope(4096, CPU) if is_device else HostEnvelope()
        self._is_device = is_device

    def slot(self, data: Slot) -> Any:
        return torch.from_numpy(data.copy()) if self._is_device else data.copy()

    def seal(self, segment: Segment, seed: int = SEED) -> Slot:
        rng = np.random.default_rng(1)
        data = rng.integers(0, 256, HEADER_BYTES + segment.payload_bytes, np.uint8)
        slot = self.slot(data)
        self.envelope.seal(segment, slot, seed)
        sealed: Slot = slot.numpy() if self._is_device else slot
        np.testing.assert_array_equal(sealed[HEADER_BYTES:], data[HEADER_BYTES:])
        return sealed

    def accepts(self, data: Slot, seed: int = SEED) -> bool:
        slot = self.slot(data)
        try:
            self.envelope.read(slot)
        except MalformedMessage:
            return False
        return self.envelope.is_intact(slot, seed)


@pytest.fixture(params=[False, True], ids=["to-host", "to-device"])
def receiver(request: pytest.FixtureRequest) -> End:
    return End(request.param)


@pytest.fixture(params=[False, True], ids=["from-host", "from-device"])
def sender(request: pytest.FixtureRequest) -> End:
    return End(request.param)


@pytest.mark.parametrize("payload_bytes", [0, 1, 64, 1001])
def test_each_opens_what_any_has_sealed(sender: End, receiver: End, payload_bytes: int) -> None:
    segment = make_segment(payload_bytes=payload_bytes)
    sealed = sender.seal(segment)
    found = receiver.envelope.read(receiver.slot(sealed))
    assert (found.ticket, found.layer, found.heads) == (segment.ticket, 0, segment.heads)
    assert found.payload_bytes == payload_bytes
    assert receiver.accepts(sealed)


def test_every_flipped_bit_is_noticed(sender: End, receiver: End) -> None:
    sealed = sender.seal(make_segment())
    for position in range(8 * NUM_BYTES):
        sealed[position // 8] ^= 1 << position % 8
        assert not receiver.accepts(sealed), f"bit {position}"
        sealed[position // 8] ^= 1 << position % 8
    assert receiver.accepts(sealed)


def test_another_fleets_segment_is_noticed(sender: End, receiver: End) -> None:
    assert not receiver.accepts(sender.seal(make_segment(), SEED ^ 2))


@pytest.mark.parametrize("num_bytes", [0, HEADER_BYTES - 1, HEADER_BYTES, NUM_BYTES - 1])
def test_a_truncated_message_is_malformed(sender: End, receiver: End, num_bytes: int) -> None:
    with pytest.raises(MalformedMessage):
        receiver.envelope.read(receiver.slot(sender.seal(make_segment())[:num_bytes]))


def test_slots_in_a_devices_memory_slice_and_measure_as_arrays_do() -> None:
    slot = allocator(CPU)(100)
    assert (len(slot), len(slot[:40]), slot.nbytes) == (100, 40, 100)
    assert not slot.any()
