from __future__ import annotations

import numpy as np
import pytest

from kvtransfer.segment import HEADER_BYTES
from kvtransfer.staging import Slot
from kvtransfer.transport import Kind
from tests.suites.transfer_tamper import CHANGES, Tampering

MESSAGE: Slot = np.arange(HEADER_BYTES + 100, dtype=np.uint8)


def sent(tampering: Tampering, kind: Kind, number: int = 200) -> list[list[bytes]]:
    """What is sent in the place of each of so many messages."""
    found = [[part.tobytes() for part in tampering(kind, MESSAGE)] for _ in range(number)]
    assert MESSAGE.tobytes() == np.arange(HEADER_BYTES + 100, dtype=np.uint8).tobytes()
    return found


def test_everything_passes_until_it_is_told_otherwise() -> None:
    for kind in Kind:
        assert sent(Tampering(), kind) == [[MESSAGE.tobytes()]] * 200


@pytest.mark.parametrize("how", CHANGES)
def test_some_segments_are_changed_and_no_control_message(how: str) -> None:
    tampering = Tampering()
    tampering.how = how
    changed = [each != [MESSAGE.tobytes()] for each in sent(tampering, Kind.SEGMENT)]
    assert 10 < sum(changed) < 60
    assert sent(tampering, Kind.CONTROL) == [[MESSAGE.tobytes()]] * 200


def test_damage_is_one_bit_where_it_says() -> None:
    for how, first, end in (("payload", HEADER_BYTES, len(MESSAGE)), ("header", 0, HEADER_BYTES)):
        tampering = Tampering()
        tampering.how = how
        for (message,) in sent(tampering, Kind.SEGMENT):
            differences = np.frombuffer(message, np.uint8) ^ MESSAGE
            (places,) = np.nonzero(differences)
            assert len(places) <= 1
            assert all(first <= place < end for place in places)


def test_a_replay_repeats_earlier_control_messages() -> None:
    tampering = Tampering()
    first, second = MESSAGE.copy(), MESSAGE[::-1].copy()
    tampering(Kind.CONTROL, first)
    tampering.how = "replay"
    again = {tampering(Kind.CONTROL, second)[1].tobytes() for _ in range(50)}
    assert again == {first.tobytes(), second.tobytes()}
