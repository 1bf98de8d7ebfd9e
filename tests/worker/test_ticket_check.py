from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto import worker_pb2
from tests.proto.builders import (
    FLOAT_LAYOUT,
    KEY,
    LAYOUT,
    OTHER_KEY,
    PROMPT,
    SMALLER_BLOCKS,
    Adapter,
    Prompt,
    make_ticket,
)
from tests.worker.builders import IDENTITY, Clock, make_check, make_introduction
from worker.errors import (
    ExpiredTicket,
    ForeignLayout,
    ForeignModel,
    ForeignPrompt,
    ForeignWorker,
    ForgedTicket,
    MalformedTicket,
    TicketLedgerFull,
    TicketRefused,
    UsedTicket,
)
from worker.ledger import OpenLeg
from worker.leg import Role
from worker.peers import Peer
from worker.ticket_check import CLOCK_SKEW_SECONDS, Forwards, TicketCheck, check_prompt

SESSION = 1
NOW = 1000.0


def leg(role: Role, number: int = 1) -> OpenLeg:
    return OpenLeg(SESSION, "r", role, f"{role}-{number}")


def ready_check(**changes: Any) -> TicketCheck:
    """At NOW, with the source of `make_ticket` introduced."""
    check = make_check(clock=Clock(NOW), **changes)
    check.peers.introduce(SESSION, Peer.introduced(make_introduction(), LAYOUT))
    return check


def good_ticket(**changes: Any) -> worker_pb2.Ticket:
    return make_ticket(**{"expires_at": NOW + 30.0, **changes}).to_proto()


@pytest.mark.parametrize("role", Role)
def test_a_good_ticket_is_taken_once(role: Role) -> None:
    check = ready_check()
    assert check.take(leg(role), good_ticket()).num_tokens == 3
    with pytest.raises(UsedTicket):
        check.take(leg(role, 2), good_ticket())
    assert check.ledger.counts().num_open == 1


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(
    ("ticket", "refusal", "code"),
    [
        (good_ticket(id=b"short"), MalformedTicket, "ticket_malformed"),
        (good_ticket(key=OTHER_KEY), ForgedTicket, "ticket_forged"),
        (good_ticket(expires_at=NOW - 5.1), ExpiredTicket, "ticket_expired"),
        (good_ticket(source_incarnation="older"), ForeignWorker, "ticket_foreign_worker"),
        (good_ticket(source_worker="worker-1"), ForeignWorker, "ticket_foreign_worker"),
        (good_ticket(model_fingerprint="other"), ForeignModel, "ticket_foreign_model"),
        (good_ticket(layout_fingerprint="other"), ForeignLayout, "ticket_foreign_layout"),
        (good_ticket(expires_at=NOW + 4000), MalformedTicket, "ticket_malformed"),
    ],
)
def test_a_bad_ticket_is_refused_by_name_and_not_used_up(
    role: Role, ticket: worker_pb2.Ticket, refusal: type[TicketRefused], code: str
) -> None:
    check = ready_check()
    with pytest.raises(refusal) as refused:
        check.take(leg(role), ticket)
    assert refused.value.code == code == f"ticket_{refused.value.cause}"
    assert repr(check.ledger) == "<TicketLedger: 0 open, 0 settling, 0 used>"


def test_a_forged_ticket_says_nothing_else_of_itself() -> None:
    forged = good_ticket(key=OTHER_KEY, expires_at=0.0, source_worker="x", model_fingerprint="y")
    with pytest.raises(ForgedTicket):
        ready_check().take(leg(Role.PREFILL), forged)


@pytest.mark.parametrize("seconds", [0.0, CLOCK_SKEW_SECONDS - 0.1])
def test_clocks_may_disagree_a_little(seconds: float) -> None:
    ready_check().take(leg(Role.DECODE), good_ticket(expires_at=NOW - seconds))


def test_a_ticket_is_remembered_as_used_until_it_has_expired_for_certain() -> None:
    clock = Clock(NOW)
    check = make_check(clock=clock)
    check.take(leg(Role.PREFILL), good_ticket())
    clock.now = NOW + 30.0 + CLOCK_SKEW_SECONDS - 0.1
    with pytest.raises(UsedTicket):
        check.take(leg(Role.PREFILL, 2), good_ticket())
    clock.now = NOW + 30.0 + CLOCK_SKEW_SECONDS
    with pytest.raises(ExpiredTicket):
        check.take(leg(Role.PREFILL, 2), good_ticket())


def test_a_decode_worker_knows_the_sources_that_its_gateway_introduced() -> None:
    check = ready_check()
    with pytest.raises(ForeignWorker):
        check.take(OpenLeg(2, "r", Role.DECODE, "decode-1"), good_ticket())
    with pytest.raises(ForeignWorker):
        check.take(leg(Role.DECODE), good_ticket(source_addresses=(b"elsewhere",)))
    check.peers.part(SESSION, "worker-0/abc")
    with pytest.raises(ForeignWorker, match="none that is known here"):
        check.take(leg(Role.DECODE), good_ticket())


def test_a_source_with_other_blocks_will_do_and_one_with_other_numbers_will_not() -> None:
    check = make_check(clock=Clock(NOW))
    for layout, number in ((SMALLER_BLOCKS, 1), (FLOAT_LAYOUT, 2)):
        peer = Peer.introduced(make_introduction(f"worker-{number}", layout=layout), LAYOUT)
        check.peers.introduce(SESSION, peer)
    convertible = good_ticket(
        source_worker="worker-1", layout_fingerprint=SMALLER_BLOCKS.fingerprint
    )
    check.take(leg(Role.DECODE), convertible)
    other = good_ticket(source_worker="worker-2", layout_fingerprint=FLOAT_LAYOUT.fingerprint)
    with pytest.raises(ForeignLayout, match=r"float32.*bfloat16"):
        check.take(leg(Role.DECODE, 2), other)


def test_a_full_ledger_refuses_by_name() -> None:
    check = ready_check(max_used=1)
    check.take(leg(Role.PREFILL), good_ticket())
    with pytest.raises(TicketLedgerFull):
        check.take(leg(Role.PREFILL, 2), good_ticket(id=b"x" * 16))


def test_a_restarted_worker_takes_no_ticket_of_its_former_life() -> None:
    check = make_check(replace(IDENTITY, incarnation="abd"), clock=Clock(NOW))
    with pytest.raises(ForeignWorker, match="worker-0/abc, this is worker-0/abd"):
        check.take(leg(Role.PREFILL), good_ticket())


@given(st.binary(max_size=400))
def test_whatever_bytes_come_only_named_errors_follow(data: bytes) -> None:
    message = worker_pb2.Ticket()
    try:
        message.ParseFromString(data)
    except Exception:
        return
    with pytest.raises(TicketRefused):
        ready_check().take(leg(Role.DECODE), message)


def test_a_ticket_covers_its_prompt() -> None:
    check_prompt(make_ticket(KEY), PROMPT)


@pytest.mark.parametrize(
    "prompt",
    [
        replace(PROMPT, prompt_token_ids=[1, 2, 4]),
        replace(PROMPT, prompt_token_ids=[1, 2, 3, 4]),
        replace(PROMPT, prompt_token_ids=[]),
        replace(PROMPT, lora_request=Adapter("a")),
        replace(PROMPT, cache_salt="salt"),
    ],
)
def test_a_ticket_does_not_cover_another(prompt: Prompt) -> None:
    with pytest.raises(ForeignPrompt):
        check_prompt(make_ticket(), prompt)


def test_a_prompts_beginning_is_another_prompt() -> None:
    with pytest.raises(ForeignPrompt):
        check_prompt(make_ticket(num_tokens=2), PROMPT)


def test_a_clock_that_is_set_back_revives_no_ticket() -> None:
    readings = iter([1000.0, 1010.0, 400.0, 1011.0])
    clock = Forwards(lambda: next(readings))
    assert [clock() for _ in range(4)] == [1000.0, 1010.0, 1010.0, 1011.0]


def test_by_default_a_check_has_such_a_clock() -> None:
    check = make_check()
    assert isinstance(
        TicketCheck(check.key, check.us, check.peers, check.ledger).unix_clock, Forwards
    )
