from __future__ import annotations

import pytest

from proto import worker_pb2
from proto.ticket import Ticket
from tests.worker.builders import TICKET_ID, make_ticket
from worker.errors import BadRequest
from worker.leg import Role, extra_args, role_of, to_proto_role, transfer_params

TICKET = Ticket.from_proto(make_ticket())


def test_roles_cross_the_border_both_ways() -> None:
    assert [role_of(to_proto_role(role)) for role in Role] == list(Role)
    assert role_of(worker_pb2.ROLE_UNSPECIFIED) is None
    assert role_of(77) is None


def test_the_prefill_leg_waits_for_whoever_shows_the_ticket() -> None:
    assert transfer_params(Role.PREFILL, TICKET) == {
        "leg": "prefill",
        "ticket": TICKET_ID,
        "lease_seconds": 30.0,
    }


def test_the_decode_leg_knows_where_to_ask() -> None:
    params = transfer_params(Role.DECODE, TICKET)
    assert params is not None
    assert (params["leg"], params["ticket"]) == ("decode", TICKET_ID)
    assert params["source"] == "worker-0/abc"
    assert list(params["source_addresses"]) == [b"there"]


def test_without_a_ticket_a_decode_leg_computes_and_a_prefill_leg_has_no_purpose() -> None:
    assert transfer_params(Role.DECODE, None) is None
    with pytest.raises(BadRequest, match="needs a ticket"):
        transfer_params(Role.PREFILL, None)


def test_a_clients_own_transfer_parameters_never_reach_the_engine() -> None:
    given = {"kv_transfer_params": {"leg": "decode"}, "ec_transfer_params": {}, "mine": 1}
    assert extra_args(given, None) == {"mine": 1}
    assert extra_args(given, {"leg": "prefill"}) == {
        "mine": 1,
        "kv_transfer_params": {"leg": "prefill"},
    }
    assert extra_args(None, None) is None
