from __future__ import annotations

from dataclasses import replace

import pytest

from fleet.member import Member
from tests.fleet.builders import make_member


def test_a_member_survives_its_encoding() -> None:
    member = make_member()
    assert Member.decode(member.encode()) == member


def test_incarnations_differ() -> None:
    assert make_member() != make_member()


@pytest.mark.parametrize("record", [b"", b"{}", b"[]", b'{"worker_id": "a"}', b"\xff"])
def test_a_record_that_is_no_member_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Member.decode(record)


@pytest.mark.parametrize("address", ["", "host", "host:", ":9000", "host:0", "host:65536", "h:x"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        replace(make_member(), address=address)


@pytest.mark.parametrize("worker_id", ["", "a b", "a:b", "../a", "x" * 129])
def test_a_worker_id_can_stand_in_a_key(worker_id: str) -> None:
    with pytest.raises(ValueError, match="worker_id"):
        make_member(worker_id)


def test_a_member_has_a_role() -> None:
    with pytest.raises(ValueError, match="role"):
        replace(make_member(), roles=())
