from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvtransfer.nixl_ledger import NixlHold, NixlLedger
from kvtransfer.stats import Transfers

LEASE = 30.0


def hold(ticket: bytes = b"t", is_load: bool = False, num_bytes: int = 100) -> NixlHold:
    return NixlHold(ticket, num_bytes, is_load, since=0.0, until=LEASE)


@pytest.fixture
def ledger() -> Iterator[NixlLedger]:
    ledger = NixlLedger()
    yield ledger
    ledger.check_integrity()


def test_what_is_open_is_counted_by_ticket(ledger: NixlLedger) -> None:
    ledger.open("p", hold(b"a", num_bytes=100))
    ledger.open("d", hold(b"b", is_load=True, num_bytes=30))
    assert ledger.held_bytes() == {b"a": 100, b"b": 30}
    stats = ledger.stats(num_links=2)
    assert (stats.open_sends, stats.held_bytes) == (1, 100)
    assert (stats.open_loads, stats.awaited_bytes) == (1, 30)
    assert stats.links == 2


def test_what_was_pulled_is_closed(ledger: NixlLedger) -> None:
    ledger.open("p", hold())
    ledger.sent(["p", "another connector's"])
    ledger.sent(["p"])
    assert ledger.stats(0) == Transfers(sends_completed=1)


def test_a_load_takes_its_time(ledger: NixlLedger) -> None:
    ledger.open("d", hold(is_load=True))
    ledger.received(100)
    ledger.loaded(["d"], now=0.25)
    assert ledger.stats(0) == Transfers(loads_completed=1, received_bytes=100, load_seconds=0.25)


def test_what_ends_without_use_is_counted_by_its_cause(ledger: NixlLedger) -> None:
    for name in ("p1", "p2"):
        ledger.open(name, hold())
    ledger.open("d", hold(is_load=True))
    ledger.sent(["p1"], "expired")
    ledger.sent(["p2"], "aborted")
    ledger.loaded(["d"], 1.0, "nixl")
    stats = ledger.stats(0)
    assert (stats.sends_failed, stats.loads_failed, stats.load_seconds) == (2, 1, 0.0)
    assert stats.failures == {"send_expired": 1, "send_aborted": 1, "load_nixl": 1}


def test_a_send_that_nobody_wants_is_given_up(ledger: NixlLedger) -> None:
    ledger.open("p", hold(b"a"))
    assert not ledger.revoke(b"unknown", now=1.0)
    assert ledger.revoke(b"a", now=1.0)
    assert ledger.revoked == {"p"}
    ledger.sent(["p"], "revoked")
    assert ledger.revoked == frozenset()


def test_a_load_cannot_be_called_off(ledger: NixlLedger) -> None:
    ledger.open("d", hold(b"a", is_load=True))
    assert not ledger.revoke(b"a", now=1.0)


def test_when_the_lease_has_ended_a_reader_may_still_be_at_it(ledger: NixlLedger) -> None:
    ledger.open("p", hold(b"a"))
    assert not ledger.revoke(b"a", now=LEASE)
    assert ledger.revoked == frozenset()
