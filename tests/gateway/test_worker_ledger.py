from __future__ import annotations

import pytest

from gateway.routing.booked import Booked
from gateway.worker_ledger import Booking, WorkerLedger


def test_it_sums_up_what_is_open_on_each_worker() -> None:
    ledger = WorkerLedger()
    ledger.open(Booking("d", "a", 0, 0.0, 100))
    ledger.open(Booking("d", "b", 10, 0.5, 50))
    ledger.open(Booking("p", "prefill:a", 10, 0.25, 10))
    assert ledger.booked("d") == Booked(2, 0, 1, 10, 0.5, 150, 0, 10)
    assert ledger.legs("d") == ("a", "b")
    assert repr(ledger) == "<WorkerLedger d: 2, p: 1>"
    ledger.check_integrity()


def test_a_closed_worker_takes_no_space() -> None:
    ledger = WorkerLedger()
    ledger.open(Booking("d", "a", 10))
    ledger.close(Booking("d", "a", 10))
    assert ledger.workers == ()
    assert ledger.booked("d") == Booked()
    assert repr(ledger) == "<WorkerLedger no open legs>"
    ledger.check_integrity()


def test_a_leg_opens_once() -> None:
    ledger = WorkerLedger()
    ledger.open(Booking("d", "a"))
    with pytest.raises(ValueError, match="open on d already"):
        ledger.open(Booking("d", "a", 10))


def test_a_move_changes_only_the_difference() -> None:
    ledger = WorkerLedger()
    decode, prefill = Booking("d", "a", kv_tokens=7), Booking("p", "prefill:a", 7)
    assert ledger.move((), (decode, prefill)) == {"d", "p"}
    assert ledger.move((decode, prefill), (decode,)) == {"p"}
    assert ledger.workers == ("d",)
    grown = Booking("d", "a", kv_tokens=9)
    assert ledger.move((decode,), (grown,)) == {"d"}
    assert ledger.booked("d").kv_tokens == 9
    ledger.check_integrity()
