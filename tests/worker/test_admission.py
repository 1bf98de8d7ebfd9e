from __future__ import annotations

from typing import Any

import pytest

from decode_worker.leg import DECODE
from prefill_worker.leg import PREFILL
from proto import worker_pb2
from tests.proto.builders import LAYOUT, OTHER_KEY, make_ticket
from tests.worker.builders import make_check, make_introduction, make_prefill, make_submit
from worker.admission import Admission
from worker.errors import (
    BadRequest,
    DuplicateRequest,
    ForeignWorker,
    ForgedTicket,
    MalformedTicket,
    NoCredit,
    Overloaded,
    RoleNotServed,
    Stopping,
    UsedTicket,
)
from worker.ledger import Ledger
from worker.leg import Leg, Role
from worker.peers import Peer

SESSION = 1


KV_TOKENS = 1000


def make_admission(*legs: Leg) -> tuple[Admission, Ledger]:
    ledger, check = Ledger(), make_check()
    check.peers.introduce(SESSION, Peer.introduced(make_introduction(), LAYOUT))
    return Admission(legs or (PREFILL, DECODE), ledger, check, KV_TOKENS), ledger


def test_a_taken_leg_is_in_the_ledger_and_an_order_for_the_engine() -> None:
    admission, ledger = make_admission()
    order = admission.admit(SESSION, make_submit("r", frames=[b"a", b"b"]))
    assert (order.leg, order.frames, order.ticket) == (DECODE, (b"a", b"b"), None)
    assert ledger.route([(order.engine_id, False)]) == {SESSION: {order.engine_id: "r"}}


def test_the_legs_of_a_request_carry_its_ticket() -> None:
    admission, _ = make_admission()
    ticket = make_ticket()
    prefill = admission.admit(SESSION, make_prefill(ticket=ticket))
    decode = admission.admit(SESSION, make_submit(ticket=ticket))
    assert (prefill.leg, decode.leg) == (PREFILL, DECODE)
    assert prefill.ticket == decode.ticket == ticket
    assert decode.refusal is None


def test_a_role_that_is_not_served_is_refused() -> None:
    admission, _ = make_admission(DECODE)
    assert admission.roles == (Role.DECODE,)
    with pytest.raises(RoleNotServed, match="does not take the prefill leg"):
        admission.admit(SESSION, make_prefill(ticket=make_ticket()))


@pytest.mark.parametrize(
    ("submit", "reason"),
    [
        pytest.param(make_submit(leg=77), "no leg 77", id="unknown leg"),
        pytest.param(make_submit(""), "1 to 256", id="no id"),
        pytest.param(make_submit("r" * 257), "1 to 256", id="long id"),
        pytest.param(make_submit("r\n"), "printable", id="id that would break a log line"),
        pytest.param(make_submit(frames=()), "missing", id="no frames"),
        pytest.param(make_prefill(), "needs a ticket", id="prefill without a ticket"),
        pytest.param(
            worker_pb2.Submit(
                request_id="r",
                leg=worker_pb2.ROLE_DECODE,
                request=[b"request"],
                transfer_params=bytes(2**20 + 1),
            ),
            "up to 1048576 bytes",
            id="long parameters",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    submit: worker_pb2.Submit, reason: str
) -> None:
    admission, ledger = make_admission()
    with pytest.raises(BadRequest, match=reason):
        admission.admit(SESSION, submit)
    assert ledger.num_open(Role.DECODE) == ledger.num_open(Role.PREFILL) == 0


BAD_TICKETS = [
    pytest.param({"id": b"short"}, MalformedTicket, id="malformed"),
    pytest.param({"source_incarnation": "older"}, ForeignWorker, id="of an earlier incarnation"),
    pytest.param({"source_worker": "worker-1"}, ForeignWorker, id="of another worker"),
]


@pytest.mark.parametrize(("changes", "refusal"), BAD_TICKETS)
def test_a_bad_ticket_fails_a_prefill_leg(changes: dict[str, Any], refusal: type) -> None:
    admission, ledger = make_admission()
    with pytest.raises(refusal):
        admission.admit(SESSION, make_prefill(ticket=make_ticket(**changes)))
    assert ledger.num_open(Role.PREFILL) == 0
    ledger.check_integrity()


@pytest.mark.parametrize(("changes", "refusal"), BAD_TICKETS)
def test_a_decode_leg_goes_without_a_bad_ticket(changes: dict[str, Any], refusal: type) -> None:
    admission, ledger = make_admission()
    order = admission.admit(SESSION, make_submit(ticket=make_ticket(**changes)))
    assert order.ticket is None
    assert isinstance(order.refusal, refusal)
    assert ledger.num_open(Role.DECODE) == 1


def test_refusals_are_counted_by_cause() -> None:
    ledger, check = Ledger(), make_check()
    admission = Admission((PREFILL, DECODE), ledger, check, KV_TOKENS)
    with pytest.raises(ForgedTicket):
        admission.admit(SESSION, make_prefill(ticket=make_ticket(OTHER_KEY)))
    admission.admit(SESSION, make_submit("a", ticket=make_ticket()))
    admission.admit(SESSION, make_submit("b", ticket=make_ticket()))
    assert check.ledger.counts().refused == (("foreign_worker", 2), ("forged", 1))


def test_a_request_id_that_is_taken_does_not_use_the_ticket_up() -> None:
    admission, _ = make_admission()
    admission.admit(SESSION, make_submit("r"))
    with pytest.raises(DuplicateRequest):
        admission.admit(SESSION, make_submit("r", ticket=make_ticket()))
    assert admission.admit(SESSION, make_submit("s", ticket=make_ticket())).ticket


def test_a_ticket_is_taken_once_by_each_side() -> None:
    admission, _ = make_admission()
    ticket = make_ticket()
    admission.admit(SESSION, make_prefill("p", ticket=ticket))
    with pytest.raises(UsedTicket):
        admission.admit(SESSION, make_prefill("q", ticket=ticket))
    assert admission.admit(SESSION, make_submit("r", ticket=ticket)).ticket
    assert isinstance(admission.admit(SESSION, make_submit("s", ticket=ticket)).refusal, UsedTicket)


def test_each_role_has_its_own_room() -> None:
    admission, ledger = make_admission(Leg(Role.DECODE, 1), Leg(Role.PREFILL, 1))
    admission.admit(SESSION, make_submit("a"))
    with pytest.raises(Overloaded, match="1 requests are open"):
        admission.admit(2, make_submit("b"))
    admission.admit(SESSION, make_prefill(ticket=make_ticket()))
    ledger.close_request(SESSION, "a")
    admission.admit(2, make_submit("b"))


def test_a_stopping_worker_takes_nothing() -> None:
    admission, _ = make_admission()
    admission.stop()
    with pytest.raises(Stopping):
        admission.admit(SESSION, make_submit())


def test_room_is_promised_once_and_free_again_when_the_leg_ends() -> None:
    admission, ledger = make_admission()
    first = admission.admit(SESSION, make_submit("a", kv_tokens=600))
    with pytest.raises(NoCredit, match="500 tokens of KV are asked for, 400 are not promised"):
        admission.admit(SESSION, make_submit("b", kv_tokens=500))
    assert ledger.num_open(Role.DECODE) == 1
    admission.admit(SESSION, make_submit("c", kv_tokens=400))
    admission.admit(SESSION, make_submit("asks for none"))
    assert ledger.reserved_tokens == 1000
    ledger.close(first.engine_id)
    admission.admit(SESSION, make_submit("b", kv_tokens=500))
    ledger.check_integrity()


def test_what_is_larger_than_the_cache_comes_alone() -> None:
    admission, ledger = make_admission()
    order = admission.admit(SESSION, make_submit("a", kv_tokens=5000))
    with pytest.raises(NoCredit):
        admission.admit(SESSION, make_submit("b", kv_tokens=1))
    ledger.close(order.engine_id)
    admission.admit(SESSION, make_submit("b", kv_tokens=1))
