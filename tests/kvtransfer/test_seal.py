from __future__ import annotations

import pytest

from kvtransfer.errors import MalformedMessage
from kvtransfer.seal import MAC_BYTES, Seal
from proto.fleet_key import KEY_BYTES, FleetKey
from tests.kvtransfer.builders import SEAL, make_ticket

KEY = FleetKey(b"k" * KEY_BYTES)
OTHER = Seal(FleetKey(b"k" * (KEY_BYTES - 1) + b"l"))
DATA = b"a message of the fleet"


@pytest.mark.parametrize("data", [b"", b"\x00", DATA, bytes(10_000)])
def test_a_message_comes_back_as_it_was(data: bytes) -> None:
    closed = Seal(KEY).close(data)
    assert len(closed) == MAC_BYTES + len(data)
    assert Seal(KEY).open(closed) == data


def test_another_fleets_message_is_refused() -> None:
    with pytest.raises(MalformedMessage, match=f"message of {MAC_BYTES + len(DATA)} bytes"):
        SEAL.open(OTHER.close(DATA))


def test_every_flipped_bit_is_noticed() -> None:
    closed = bytearray(SEAL.close(DATA))
    for position in range(8 * len(closed)):
        closed[position // 8] ^= 1 << position % 8
        with pytest.raises(MalformedMessage):
            SEAL.open(bytes(closed))
        closed[position // 8] ^= 1 << position % 8
    assert SEAL.open(bytes(closed)) == DATA


def test_a_truncated_message_is_refused() -> None:
    closed = SEAL.close(DATA)
    for num_bytes in range(len(closed)):
        with pytest.raises(MalformedMessage):
            SEAL.open(closed[:num_bytes])
    with pytest.raises(MalformedMessage):
        SEAL.open(closed + b"\x00")


def test_what_is_refused_is_not_shown() -> None:
    with pytest.raises(MalformedMessage) as refused:
        SEAL.open(OTHER.close(DATA))
    assert DATA.decode() not in str(refused.value)


def test_every_ticket_has_a_seed_of_its_own() -> None:
    seeds = {SEAL.seed(make_ticket(number)) for number in range(1000)}
    assert len(seeds) == 1000
    assert all(0 <= seed < 1 << 64 for seed in seeds)


def test_seeds_are_the_fleets() -> None:
    assert Seal(KEY).seed(make_ticket()) == SEAL.seed(make_ticket())
    assert OTHER.seed(make_ticket()) != SEAL.seed(make_ticket())


def test_a_seed_says_nothing_about_a_mac() -> None:
    """Each purpose has a key of its own."""
    mac = SEAL.close(make_ticket())[:MAC_BYTES]
    assert SEAL.seed(make_ticket()).to_bytes(8) not in (mac[:8], mac[8:])
