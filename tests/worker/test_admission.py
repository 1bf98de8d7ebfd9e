from __future__ import annotations

import pytest

from decode_worker.leg import DECODE
from prefill_worker.leg import PREFILL
from proto import worker_pb2
from tests.worker.builders import IDENTITY, make_submit, make_ticket
from worker.admission import Admission
from worker.errors import BadRequest, Overloaded, RoleNotServed, StaleTicket, Stopping
from worker.ledger import Ledger
from worker.leg import Leg, Role


def make_admission(*legs: Leg) -> tuple[Admission, Ledger]:
    ledger = Ledger()
    return Admission(IDENTITY, legs or (PREFILL, DECODE), ledger), ledger


def test_a_taken_leg_is_in_the_ledger_and_an_order_for_the_engine() -> None:
    admission, ledger = make_admission()
    order = admission.admit(1, make_submit("r", frames=[b"a", b"b"]))
    assert (order.leg, order.frames, order.transfer) == (DECODE, (b"a", b"b"), None)
    assert ledger.route([(order.engine_id, False)]) == {1: {order.engine_id: "r"}}


def test_a_ticket_becomes_the_connectors_parameters() -> None:
    admission, _ = make_admission()
    submit = make_submit("p", leg=worker_pb2.ROLE_PREFILL, ticket=make_ticket())
    order = admission.admit(1, submit)
    assert order.leg is PREFILL
    assert order.transfer is not None
    assert order.transfer["leg"] == "prefill"


def test_a_role_that_is_not_served_is_refused() -> None:
    admission, _ = make_admission(DECODE)
    assert admission.roles == (Role.DECODE,)
    with pytest.raises(RoleNotServed, match="does not take the prefill leg"):
        admission.admit(1, make_submit(leg=worker_pb2.ROLE_PREFILL, ticket=make_ticket()))


@pytest.mark.parametrize(
    ("submit", "reason"),
    [
        pytest.param(make_submit(leg=77), "no leg 77", id="unknown leg"),
        pytest.param(make_submit(""), "1 to 256", id="no id"),
        pytest.param(make_submit("r" * 257), "1 to 256", id="long id"),
        pytest.param(make_submit("r\n"), "printable", id="id that would break a log line"),
        pytest.param(make_submit(frames=()), "missing", id="no frames"),
        pytest.param(
            make_submit(ticket=make_ticket(ticket_id=b"short")), "16 bytes", id="ticket's id"
        ),
        pytest.param(
            make_submit(ticket=make_ticket(addresses=[])), "at least one", id="no address"
        ),
        pytest.param(
            make_submit(ticket=make_ticket(addresses=[b"a", b"b"])), "1 ranks", id="more ranks"
        ),
        pytest.param(
            make_submit(ticket=make_ticket(addresses=[b"a" * 5000])), "4096", id="long address"
        ),
        pytest.param(
            make_submit(ticket=make_ticket(lease_seconds=1e6)), "3600", id="lease without end"
        ),
        pytest.param(
            make_submit(ticket=make_ticket(lease_seconds=float("nan"))), "finite", id="no lease"
        ),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    submit: worker_pb2.Submit, reason: str
) -> None:
    admission, ledger = make_admission()
    with pytest.raises(BadRequest, match=reason):
        admission.admit(1, submit)
    assert repr(ledger) == repr(Ledger())


@pytest.mark.parametrize(
    "ticket",
    [
        pytest.param(make_ticket(incarnation="older"), id="of an earlier incarnation"),
        pytest.param(make_ticket(worker="worker-1"), id="of another worker"),
    ],
)
def test_a_prefill_leg_is_bound_to_the_incarnation_in_its_ticket(
    ticket: worker_pb2.Ticket,
) -> None:
    admission, _ = make_admission()
    with pytest.raises(StaleTicket):
        admission.admit(1, make_submit(leg=worker_pb2.ROLE_PREFILL, ticket=ticket))
    # A decode leg's ticket names the other worker.
    assert admission.admit(1, make_submit(ticket=ticket)).transfer


def test_each_role_has_its_own_room() -> None:
    admission, ledger = make_admission(Leg(Role.DECODE, 1), Leg(Role.PREFILL, 1))
    admission.admit(1, make_submit("a"))
    with pytest.raises(Overloaded, match="1 requests are open"):
        admission.admit(2, make_submit("b"))
    admission.admit(1, make_submit("p", leg=worker_pb2.ROLE_PREFILL, ticket=make_ticket()))
    ledger.close_request(1, "a")
    admission.admit(2, make_submit("b"))


def test_a_stopping_worker_takes_nothing() -> None:
    admission, _ = make_admission()
    admission.stop()
    with pytest.raises(Stopping):
        admission.admit(1, make_submit())
