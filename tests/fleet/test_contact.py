from __future__ import annotations

import logging

import pytest

from fleet.contact import Contact
from fleet.errors import FleetUnavailable

OUTAGE = FleetUnavailable("redis://h", "gone")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_an_outage_of_several_is_logged_once_and_timed(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    contact = Contact("going on", clock)
    with caplog.at_level(logging.WARNING):
        contact.made("members")
        assert contact.is_made
        contact.lost("members", OUTAGE)
        clock.now += 2
        contact.lost("blocks", OUTAGE)
        contact.lost("members", OUTAGE)
        clock.now += 3
        assert (contact.outage_seconds, contact.total_outage_seconds) == (5, 5)
        contact.made("members")
        assert repr(contact) == "<Contact lost for 5 s>"
        contact.made("members")
        clock.now += 1
        contact.made("blocks")
    assert caplog.messages == [
        "fleet state at redis://h is unreachable: gone; going on",
        "fleet state is back after 6.0 s",
    ]
    clock.now += 10
    assert contact.is_made
    assert (contact.outage_seconds, contact.total_outage_seconds) == (0, 6)


def test_outages_add_up(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    contact = Contact("going on", clock)
    told: list[tuple[bool, float]] = []
    contact.listen(lambda it: told.append((it.is_made, it.total_outage_seconds)))
    for seconds in (1, 2):
        contact.lost("members", OUTAGE)
        clock.now += seconds
        contact.made("members")
    contact.lost("members", OUTAGE)
    clock.now += 4
    assert contact.total_outage_seconds == 7
    contact.lost("blocks", OUTAGE)
    assert told == [(True, 0), (False, 0), (True, 1), (False, 1), (True, 3), (False, 3), (False, 7)]
