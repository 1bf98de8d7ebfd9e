from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proto.ticket import Ticket
from tests.proto.builders import make_ticket
from worker.errors import TicketLedgerFull, UsedTicket
from worker.leg import Role
from worker.ticket_ledger import TicketCounts, TicketLedger

LEASE_SECONDS = 30.0


def ticket(number: int = 1) -> Ticket:
    return make_ticket(id=number.to_bytes(16, "big"), lease_seconds=LEASE_SECONDS)


def make_ledger(*legs: str) -> TicketLedger:
    """With a ticket open for each leg, by its engine id: "decode-1" has ticket 1."""
    ledger = TicketLedger()
    for leg in legs:
        role, _, number = leg.partition("-")
        ledger.open(Role(role), leg, ticket(int(number)), 0.0, 60.0)
    return ledger


def test_a_ticket_is_opened_once_on_each_side() -> None:
    ledger = make_ledger("prefill-1", "decode-1")
    for role in Role:
        with pytest.raises(UsedTicket):
            ledger.open(role, "another", ticket(1), 1.0, 60.0)
    ledger.close("decode-1")
    with pytest.raises(UsedTicket):
        ledger.open(Role.DECODE, "another", ticket(1), 2.0, 60.0)
    ledger.check_integrity()


def test_a_used_ticket_is_remembered_for_as_long_as_it_could_be_shown() -> None:
    ledger = make_ledger("decode-1")
    with pytest.raises(UsedTicket):
        ledger.open(Role.DECODE, "again", ticket(1), 59.9, 60.0)
    assert repr(ledger) == "<TicketLedger: 1 open, 0 settling, 1 used>"
    ledger.overdue(60.0)
    assert repr(ledger) == "<TicketLedger: 0 open, 0 settling, 0 used>"


def test_a_full_ledger_refuses_and_forgets_nothing() -> None:
    ledger = TicketLedger(max_used=2)
    ledger.open(Role.DECODE, "a", ticket(1), 0.0, 10.0)
    ledger.open(Role.DECODE, "b", ticket(2), 0.0, 20.0)
    with pytest.raises(TicketLedgerFull, match="2 used tickets"):
        ledger.open(Role.DECODE, "c", ticket(3), 9.0, 10.0)
    with pytest.raises(UsedTicket):
        ledger.open(Role.DECODE, "d", ticket(1), 9.0, 10.0)
    ledger.open(Role.DECODE, "c", ticket(3), 10.0, 10.0)
    ledger.check_integrity()


def test_a_decode_legs_ticket_is_open_until_its_first_output() -> None:
    ledger = make_ledger("decode-1", "decode-2")
    ledger.output("decode-1", is_last=False, now=1.0)
    ledger.output("decode-1", is_last=False, now=2.0)
    ledger.leg_ended("decode-2", 2.0)
    assert not ledger.has_open


def test_a_prefill_legs_ticket_is_open_until_nothing_is_held_for_it() -> None:
    ledger = make_ledger("prefill-1", "prefill-2")
    ledger.held({}, asked_at=0.5)
    ledger.output("prefill-1", is_last=True, now=1.0)
    ledger.leg_ended("prefill-2", 1.0)
    assert ledger.is_settling
    ledger.held({}, asked_at=0.9)  # asked before the legs ended
    assert ledger.counts().num_open == 2
    ledger.held({ticket(2).id: 7}, asked_at=1.5)
    assert (ledger.counts().num_open, ledger.counts().num_bytes) == (1, 7)
    ledger.held({}, asked_at=2.0)
    assert repr(ledger) == "<TicketLedger: 0 open, 0 settling, 2 used>"
    ledger.check_integrity()


def test_a_lease_ends_whatever_is_held() -> None:
    ledger = make_ledger("prefill-1", "decode-2")
    ledger.leg_ended("prefill-1", 1.0)
    ledger.held({ticket(1).id: 7}, asked_at=2.0)
    assert ledger.overdue(LEASE_SECONDS - 0.1) == []
    late = ledger.overdue(LEASE_SECONDS)
    assert [each.engine_id for each in late] == ["prefill-1", "decode-2"]
    assert ledger.counts() == TicketCounts()
    ledger.check_integrity()


def test_what_is_told_of_it() -> None:
    ledger = make_ledger("decode-1", "decode-2")
    ledger.held({ticket(1).id: 5, ticket(2).id: 6, b"unknown": 9}, asked_at=1.0)
    ledger.refuse("decode-3", "forged")
    ledger.refuse("decode-2", "foreign_prompt")
    counts = ledger.counts()
    assert counts == TicketCounts(1, 5, LEASE_SECONDS, (("foreign_prompt", 1), ("forged", 1)))
    report = counts.to_proto(now=10.0)
    assert (report.num_open, report.num_bytes, report.next_deadline_seconds) == (1, 5, 20.0)
    assert dict(report.refused) == {"foreign_prompt": 1, "forged": 1}
    assert counts.to_proto(now=100.0).next_deadline_seconds == 0.0


@given(st.lists(st.tuples(st.sampled_from(Role), st.integers(0, 5)), max_size=30))
def test_of_all_that_show_a_ticket_the_first_alone_is_taken(shown: list[tuple[Role, int]]) -> None:
    ledger = TicketLedger()
    taken = []
    for now, (role, number) in enumerate(shown):
        try:
            ledger.open(role, f"leg-{now}", ticket(number), now, valid_seconds=1000.0)
            taken.append((role, number))
        except UsedTicket:
            assert (role, number) in taken
    assert len(taken) == len(set(taken)) == len(set(shown))


class LedgerWalk(RuleBasedStateMachine):
    """Any order of events keeps the invariants, and the end of all leases leaves nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.ledger = TicketLedger(max_used=8)
        self.now = 0.0
        self.legs: list[str] = []

    @rule(role=st.sampled_from(Role), number=st.integers(0, 6))
    def open(self, role: Role, number: int) -> None:
        leg = f"{role}-{len(self.legs)}"
        try:
            self.ledger.open(role, leg, ticket(number), self.now, valid_seconds=40.0)
            self.legs.append(leg)
        except (UsedTicket, TicketLedgerFull):
            pass

    @precondition(lambda self: self.legs)
    @rule(data=st.data(), is_last=st.booleans())
    def output(self, data: st.DataObject, is_last: bool) -> None:
        self.ledger.output(data.draw(st.sampled_from(self.legs)), is_last, self.now)

    @precondition(lambda self: self.legs)
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        self.ledger.refuse(data.draw(st.sampled_from(self.legs)), "forged")

    @rule(numbers=st.sets(st.integers(0, 6)))
    def held(self, numbers: set[int]) -> None:
        self.ledger.held({ticket(each).id: each for each in numbers}, self.now)

    @rule(seconds=st.floats(0.1, 20.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        for late in self.ledger.overdue(self.now):
            assert late.deadline <= self.now

    @invariant()
    def is_sound(self) -> None:
        self.ledger.check_integrity()
        deadline = self.ledger.counts().next_deadline
        assert deadline is None or deadline > self.now

    def teardown(self) -> None:
        self.ledger.overdue(self.now + 100.0)
        assert repr(self.ledger) == "<TicketLedger: 0 open, 0 settling, 0 used>"


TestLedgerWalk = LedgerWalk.TestCase
TestLedgerWalk.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
