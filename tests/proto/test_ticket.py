from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import worker_pb2
from proto.ticket import Ticket
from tests.proto.builders import KEY, OTHER_KEY, make_ticket

CHANGES: dict[str, Any] = {
    "id": b"x" * 16,
    "source_worker": "worker-0a",
    "source_incarnation": "abd",
    "source_addresses": (b"the", b"re"),
    "model_fingerprint": "modem",
    "layout_fingerprint": "other",
    "prompt_digest": b"x" * 32,
    "num_tokens": 4,
    "expires_at": 1.0,
    "lease_seconds": 29.5,
}


def test_a_ticket_crosses_the_border_whole() -> None:
    ticket = make_ticket(source_addresses=(b"a", b"b"))
    assert Ticket.from_proto(ticket.to_proto()) == ticket
    assert ticket.is_signed_by(KEY)
    assert {each.name for each in fields(Ticket)} == set(
        worker_pb2.Ticket.DESCRIPTOR.fields_by_name
    )


@pytest.mark.parametrize("name", [each.name for each in fields(Ticket) if each.name != "mac"])
def test_whoever_changes_a_field_loses_the_signature(name: str) -> None:
    changed = replace(make_ticket(), **{name: CHANGES[name]})
    assert not changed.is_signed_by(KEY)
    assert changed.signed(KEY).is_signed_by(KEY)


@given(st.integers(0, 8 * 32 - 1))
def test_whoever_changes_a_bit_of_the_signature_loses_it(bit: int) -> None:
    ticket = make_ticket()
    mac = (int.from_bytes(ticket.mac, "big") ^ (1 << bit)).to_bytes(32, "big")
    assert not replace(ticket, mac=mac).is_signed_by(KEY)


@given(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=4), st.data())
def test_addresses_cannot_be_cut_otherwise(addresses: list[bytes], data: st.DataObject) -> None:
    whole = b"".join(addresses)
    cut = data.draw(st.integers(1, len(whole)))
    other = tuple(part for part in (whole[:cut], whole[cut:]) if part)
    ticket = make_ticket(source_addresses=tuple(addresses))
    is_same = replace(ticket, source_addresses=other).is_signed_by(KEY)
    assert is_same == (other == tuple(addresses))


def test_whole_seconds_keep_their_signature_over_the_border() -> None:
    ticket = make_ticket(lease_seconds=30, expires_at=2000)
    assert Ticket.from_proto(ticket.to_proto()).is_signed_by(KEY)


def test_another_fleets_ticket_is_not_ours() -> None:
    assert not make_ticket(OTHER_KEY).is_signed_by(KEY)
    assert not replace(make_ticket(), mac=b"").is_signed_by(KEY)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param({"id": b"short"}, "16 bytes", id="id"),
        pytest.param({"source_addresses": ()}, "1 to 1024", id="no address"),
        pytest.param({"source_addresses": (b"a",) * 1025}, "1 to 1024", id="many addresses"),
        pytest.param({"source_addresses": (b"",)}, "1 to 4096", id="empty address"),
        pytest.param({"source_addresses": (b"a" * 4097,)}, "1 to 4096", id="long address"),
        pytest.param({"lease_seconds": 0.0}, "up to 3600", id="no lease"),
        pytest.param({"lease_seconds": float("nan")}, "up to 3600", id="no number"),
        pytest.param({"lease_seconds": float("inf")}, "up to 3600", id="no end"),
        pytest.param({"expires_at": float("inf")}, "expires", id="no expiry"),
        pytest.param({"prompt_digest": b"x"}, "32 bytes", id="digest"),
        pytest.param({"num_tokens": 0}, "one token", id="no tokens"),
    ],
)
def test_what_is_no_ticket_is_refused(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Ticket.from_proto(make_ticket(**changes).to_proto())


def test_a_ticket_of_many_ranks_is_one() -> None:
    ticket = make_ticket(source_addresses=(b"a",) * 1024)
    assert Ticket.from_proto(ticket.to_proto()) == ticket


def test_ids_are_random_and_the_repr_shows_little() -> None:
    assert len({Ticket.new_id() for _ in range(100)}) == 100
    assert repr(make_ticket()) == "<Ticket 00010203 from worker-0>"
