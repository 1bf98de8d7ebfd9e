from __future__ import annotations

import pytest

from gateway.worker_ledger import WorkerLedger


def test_it_counts_legs_and_tokens_per_worker() -> None:
    ledger = WorkerLedger()
    ledger.open("d", "a", 10)
    ledger.open("d", "b", 5)
    ledger.open("p", "prefill:a", 10)
    assert (ledger.num_legs("d"), ledger.num_tokens("d")) == (2, 15)
    assert ledger.legs("d") == ("a", "b")
    assert repr(ledger) == "<WorkerLedger d: 2, p: 1>"
    ledger.check_integrity()


def test_a_closed_worker_takes_no_space() -> None:
    ledger = WorkerLedger()
    ledger.open("d", "a", 10)
    ledger.close("d", "a")
    assert ledger.workers == ()
    assert ledger.num_tokens("d") == 0
    assert repr(ledger) == "<WorkerLedger no open legs>"
    ledger.check_integrity()


def test_a_leg_opens_once() -> None:
    ledger = WorkerLedger()
    ledger.open("d", "a", 10)
    with pytest.raises(ValueError, match="open on d already"):
        ledger.open("d", "a", 10)


def test_a_move_changes_only_the_difference() -> None:
    ledger = WorkerLedger()
    ledger.move((), (("d", "a"), ("p", "prefill:a")), 7)
    ledger.move((("d", "a"), ("p", "prefill:a")), (("d", "a"),), 7)
    assert ledger.workers == ("d",)
    assert ledger.num_tokens("d") == 7
    ledger.check_integrity()
