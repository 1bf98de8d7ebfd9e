from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import pytest

from kvtransfer import loads
from kvtransfer.causes import Cause
from kvtransfer.errors import MalformedMessage
from kvtransfer.loads import LoadLedger
from kvtransfer.segment import Segment
from tests.kvtransfer.builders import LAYOUT, make_order, make_segment, make_ticket, prompt_bytes

LEASE = 30.0
T1, T2 = make_ticket(1), make_ticket(2)


@pytest.fixture
def ledger() -> Iterator[LoadLedger]:
    ledger = LoadLedger(LAYOUT)
    yield ledger
    ledger.check_integrity()


def land(ledger: LoadLedger, segment: Segment, now: float = 0.0) -> bool:
    """As the receiver does. True if it was stored."""
    try:
        if ledger.place_of(segment) is None:
            return False
    except MalformedMessage:
        ledger.fail(segment.ticket, Cause.MALFORMED)
        ledger.check_integrity()
        return False
    ledger.landed(segment, now)
    ledger.check_integrity()
    return True


def land_all(ledger: LoadLedger, ticket: bytes = T1, num_tokens: int = 10) -> None:
    for layer in range(LAYOUT.num_layers):
        assert land(ledger, make_segment(layer, 0, LAYOUT.num_blocks(num_tokens), ticket))


def outcomes(ledger: LoadLedger) -> tuple[list[str], list[str], list[str]]:
    """Completed, failed, cancelled, since the last time."""
    return ledger.take_completed(), ledger.take_failed(), ledger.take_cancelled()


def test_a_load_is_completed_when_all_has_landed(ledger: LoadLedger) -> None:
    assert ledger.open(make_order(T1), now=10.0)
    for layer in (2, 0):
        land(ledger, make_segment(layer, 0, 3), now=11.0)
        assert outcomes(ledger) == ([], [], [])
    land(ledger, make_segment(1, 0, 3), now=12.5)
    assert outcomes(ledger) == (["d1"], [], [])
    assert outcomes(ledger) == ([], [], [])
    assert (ledger.num_completed, ledger.num_open) == (1, 0)
    assert ledger.load_seconds == 2.5
    assert ledger.received_segments == 3
    assert ledger.received_bytes == prompt_bytes(10)


@pytest.mark.parametrize("how", ["completed", "failed", "cancelled", "expired", "closed"])
def test_a_load_ends_once(ledger: LoadLedger, how: str) -> None:
    order = make_order(T1)
    ledger.open(order, now=0.0)
    if how == "completed":
        land_all(ledger)
    elif how == "failed":
        assert ledger.fail(T1, Cause.LINK_LOST) == order
    elif how == "cancelled":
        assert ledger.cancel("d1") == order
    elif how == "expired":
        for ticket in ledger.expired(now=LEASE):
            ledger.fail(ticket, Cause.EXPIRED)
    else:
        ledger.close(Cause.BROKEN)
    assert ledger.fail(T1, Cause.REVOKED) is None
    assert ledger.cancel("d1") is None
    assert ledger.expired(now=10 * LEASE) == []
    ledger.close(Cause.BROKEN)
    assert not land(ledger, make_segment())
    ended = outcomes(ledger)
    assert [request for requests in ended for request in requests] == ["d1"]
    assert ended[0] == ["d1"] * (how == "completed")
    assert ended[2] == ["d1"] * (how == "cancelled")
    assert ledger.num_failed == len(ended[1])


def test_a_late_segment_is_counted_and_has_no_place(ledger: LoadLedger) -> None:
    assert ledger.place_of(make_segment(ticket=T2)) is None
    assert ledger.num_late_segments == 1
    assert ledger.received_bytes == 0


@pytest.mark.parametrize(
    "segment",
    [
        pytest.param(make_segment(0, 0), id="twice"),
        pytest.param(make_segment(7, 0), id="no-such-layer"),
        pytest.param(make_segment(1, 3), id="beyond"),
        pytest.param(make_segment(1, 0, heads=range(1, 3)), id="no-such-head"),
        pytest.param(make_segment(1, 0, payload_bytes=1), id="wrong-size"),
    ],
)
def test_a_segment_that_contradicts_its_order_is_malformed(
    ledger: LoadLedger, segment: Segment
) -> None:
    ledger.open(make_order(T1), now=0.0)
    land(ledger, make_segment(0, 0))
    with pytest.raises(MalformedMessage):
        ledger.place_of(segment)
    assert ledger.is_open(T1)
    assert ledger.num_late_segments == 0


def test_one_bad_load_leaves_the_others(ledger: LoadLedger) -> None:
    ledger.open(make_order(T1, "d1"), now=0.0)
    ledger.open(make_order(T2, "d2", first_block=500), now=0.0)
    land(ledger, make_segment(9, ticket=T1))
    land_all(ledger, T2)
    assert outcomes(ledger) == (["d2"], ["d1"], [])


def test_a_load_expires_when_nothing_has_landed_for_its_lease(ledger: LoadLedger) -> None:
    ledger.open(make_order(T1), now=100.0)
    assert ledger.next_deadline() == 130.0
    land(ledger, make_segment(), now=120.0)
    assert ledger.next_deadline() == 150.0
    assert ledger.expired(now=149.9) == []
    assert ledger.expired(now=150.0) == [T1]


def test_failures_are_counted_by_their_cause(ledger: LoadLedger) -> None:
    causes = [Cause.CHECKSUM, Cause.LINK_LOST, Cause.CHECKSUM]
    for number, cause in enumerate(causes, start=1):
        ledger.open(make_order(make_ticket(number), f"d{number}"), now=0.0)
        ledger.fail(make_ticket(number), cause)
    ledger.open(make_order(make_ticket(1), "d4"), now=0.0)
    ledger.open(make_order(make_ticket(5), "d5"), now=0.0)
    ledger.cancel("d5")
    assert ledger.failures == {Cause.CHECKSUM: 3, Cause.LINK_LOST: 1}
    assert ledger.num_failed == 4


def test_awaited_bytes_are_those_of_open_loads(ledger: LoadLedger) -> None:
    ledger.open(make_order(T1, "d1"), now=0.0)
    ledger.open(make_order(T2, "d2", num_tokens=4, first_block=500), now=0.0)
    assert ledger.awaited_bytes == prompt_bytes(10) + prompt_bytes(4)
    ledger.cancel("d1")
    assert ledger.awaited_bytes == prompt_bytes(4)


def test_a_load_is_told_from_others_of_its_ticket(ledger: LoadLedger) -> None:
    order, other = make_order(T1, "d1"), make_order(T1, "d2")
    ledger.open(order, now=0.0)
    assert ledger.is_load(T1, order.load)
    assert not ledger.is_load(T1, other.load)
    assert not ledger.is_load(T2, order.load)


def test_a_ticket_in_use_fails_only_the_second_load(ledger: LoadLedger) -> None:
    ledger.open(make_order(T1, "d1"), now=0.0)
    assert not ledger.open(make_order(T1, "d2"), now=0.0)
    assert outcomes(ledger) == ([], ["d2"], [])
    assert ledger.failures == {Cause.USED: 1}
    land_all(ledger)
    assert outcomes(ledger) == (["d1"], [], [])


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
def test_a_ticket_that_was_used_fails_at_once(ledger: LoadLedger, end: str) -> None:
    ledger.open(make_order(T1, "d1"), now=0.0)
    if end == "completed":
        land_all(ledger)
    elif end == "failed":
        ledger.fail(T1, Cause.LINK_LOST)
    else:
        ledger.cancel("d1")
    outcomes(ledger)
    assert not ledger.open(make_order(T1, "d2"), now=0.0)
    assert outcomes(ledger) == ([], ["d2"], [])


def test_a_ticket_that_is_revoked_before_its_load_is_opened_fails_at_once(
    ledger: LoadLedger,
) -> None:
    assert ledger.fail(T1, Cause.REVOKED) is None
    assert ledger.num_failed == 0
    assert not ledger.open(make_order(T1), now=0.0)
    assert not ledger.is_open(T1)
    assert outcomes(ledger) == ([], ["d1"], [])
    assert ledger.failures == {Cause.REVOKED: 1}


def test_spent_tickets_are_remembered_up_to_a_bound(
    ledger: LoadLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loads, "MAX_SPENT", 2)
    for number in (1, 2, 3):
        ledger.fail(make_ticket(number), Cause.REVOKED)
    assert [
        ledger.open(make_order(make_ticket(number), f"d{number}"), now=0.0) for number in (1, 2, 3)
    ] == [True, False, False]


def test_loads_are_found_by_where_they_come_from(ledger: LoadLedger) -> None:
    ledger.open(make_order(T1, "d1", source_addresses=(b"here", b"near")), now=0.0)
    ledger.open(make_order(T2, "d2", source_addresses=(b"there",)), now=0.0)
    assert ledger.from_address(b"there") == [T2]
    assert ledger.from_address(b"near") == [T1]
    assert ledger.from_address(b"nowhere") == []
    assert ledger.source_addresses() == {b"here", b"near", b"there"}
    assert repr(ledger) == "<LoadLedger 2 open>"


@pytest.mark.parametrize("seed", range(30))
def test_in_any_history_every_load_ends_exactly_once(seed: int) -> None:
    dice = random.Random(seed)
    ledger = LoadLedger(LAYOUT)
    opened: list[str] = []
    ended: Counter[str] = Counter()
    now = 0.0
    for _ in range(300):
        number = dice.randint(1, max(1, len(opened)))
        match dice.randrange(8):
            case 0:
                opened.append(f"d{len(opened) + 1}")
                shown = make_ticket(len(opened) if dice.random() < 0.9 else number)
                order = make_order(shown, opened[-1], num_tokens=9, first_block=10 * len(opened))
                ledger.open(order, now)
            case 1:
                ledger.cancel(f"d{number}")
            case 2 if dice.random() < 0.3:
                ledger.fail(make_ticket(number), Cause.REVOKED)
            case 3:
                now += dice.random() * LEASE / 3
                for ticket in ledger.expired(now):
                    ledger.fail(ticket, Cause.EXPIRED)
            case _:
                head = dice.randrange(2)
                land(
                    ledger,
                    make_segment(
                        layer=dice.randrange(3),
                        first_block=dice.randrange(3),
                        ticket=make_ticket(number),
                        heads=range(head, dice.randrange(head + 1, 3)),
                    ),
                    now,
                )
        ledger.check_integrity()
        for requests in outcomes(ledger):
            ended.update(requests)
    ledger.close(Cause.BROKEN)
    for requests in outcomes(ledger):
        ended.update(requests)
    assert ended == Counter(opened)
