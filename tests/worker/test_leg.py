from __future__ import annotations

import msgspec
import pytest

from decode_worker.leg import DECODE
from kvtransfer.nixl import NixlAddress, signed_params
from prefill_worker.leg import PREFILL
from proto import worker_pb2
from proto.ticket import Ticket
from tests.proto.builders import KEY, OTHER_KEY, TICKET_ID, make_ticket
from worker.errors import BadRequest, ForeignTransfer
from worker.leg import Leg, Order, Role, extra_args, role_of, to_proto_role, transfer_params


def test_roles_cross_the_border_both_ways() -> None:
    assert [role_of(to_proto_role(role)) for role in Role] == list(Role)
    assert role_of(worker_pb2.ROLE_UNSPECIFIED) is None
    assert role_of(77) is None


def make_order(leg: Leg = DECODE, ticket: Ticket | None = None, peer_params: bytes = b"") -> Order:
    return Order("decode-1-r", leg, (b"request",), ticket, peer_params=peer_params)


def test_the_prefill_leg_waits_for_whoever_shows_the_ticket() -> None:
    assert transfer_params(make_order(PREFILL, make_ticket()), KEY) == {
        "leg": "prefill",
        "ticket": TICKET_ID,
        "lease_seconds": 30.0,
    }


def test_the_decode_leg_knows_where_to_ask() -> None:
    params = transfer_params(make_order(DECODE, make_ticket()), KEY)
    assert params is not None
    assert (params["leg"], params["ticket"]) == ("decode", TICKET_ID)
    assert params["source"] == "worker-0/abc"
    assert list(params["source_addresses"]) == [b"there"]


def test_without_a_ticket_nothing_is_moved() -> None:
    assert transfer_params(make_order(DECODE), KEY) is None
    assert transfer_params(make_order(DECODE, peer_params=b"\xc1"), KEY) is None


def test_what_the_prefill_legs_connector_said_is_passed_on_but_rules_nothing() -> None:
    said = msgspec.msgpack.encode({"remote_port": 7, "leg": "prefill"})
    params = transfer_params(make_order(DECODE, make_ticket(), said), KEY)
    assert params is not None
    assert (params["remote_port"], params["leg"]) == (7, "decode")
    with pytest.raises(BadRequest, match="cannot be decoded"):
        transfer_params(make_order(DECODE, make_ticket(), b"\xc1"), KEY)


def test_nixl_is_told_in_its_own_words() -> None:
    ticket = make_ticket(source_addresses=(NixlAddress("e", "h", 1).encode(),), num_tokens=1)
    prefill = transfer_params(make_order(PREFILL, ticket), KEY, "nixl")
    assert prefill is not None and prefill["do_remote_decode"]
    said = {
        "remote_engine_id": "e",
        "remote_request_id": "r",
        "remote_host": "h",
        "remote_port": 1,
        "remote_block_ids": [[1]],
        "remote_num_tokens": 1,
        "tp_size": 1,
        "pp_size": 1,
    }
    signed = msgspec.msgpack.encode(signed_params(ticket.id, said, KEY))
    order = make_order(DECODE, ticket, signed)
    decode = transfer_params(order, KEY, "nixl")
    assert decode is not None and decode["do_remote_prefill"]
    assert decode["remote_request_id"] == "r"
    with pytest.raises(ForeignTransfer, match="not signed"):
        transfer_params(order, OTHER_KEY, "nixl")


def test_without_kv_that_is_the_tickets_nixl_is_told_nothing() -> None:
    with pytest.raises(ForeignTransfer, match="has not said"):
        transfer_params(make_order(DECODE, make_ticket()), KEY, "nixl")
    assert transfer_params(make_order(DECODE), KEY, "nixl") is None


def test_a_clients_own_transfer_parameters_never_reach_the_engine() -> None:
    given = {"kv_transfer_params": {"leg": "decode"}, "ec_transfer_params": {}, "mine": 1}
    assert extra_args(given, None) == {"mine": 1}
    assert extra_args(given, {"leg": "prefill"}) == {
        "mine": 1,
        "kv_transfer_params": {"leg": "prefill"},
    }
    assert extra_args(None, None) is None
