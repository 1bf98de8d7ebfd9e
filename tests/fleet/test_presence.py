from __future__ import annotations

from fleet.presence import Change, Presence
from tests.fleet.builders import make_member

A, B = make_member("a"), make_member("b")


def make_presence() -> Presence:
    presence = Presence(grace_seconds=10)
    presence.observe([A, B], now=0)
    return presence


def test_the_first_listing_joins_everyone() -> None:
    assert Presence(10).observe([A, B], now=0) == Change(joined=(A, B))


def test_an_unchanged_listing_is_no_change() -> None:
    assert not make_presence().observe([B, A], now=1)


def test_one_that_is_no_longer_listed_has_left() -> None:
    assert make_presence().observe([A], now=1) == Change(left=(B,))


def test_another_incarnation_leaves_and_joins() -> None:
    restarted = make_member("b")
    assert make_presence().observe([A, restarted], now=1) == Change(joined=(restarted,), left=(B,))


def test_all_vanishing_at_once_is_doubted_until_the_grace_ends() -> None:
    presence = make_presence()
    assert not presence.observe([], now=1)
    assert not presence.observe([], now=10.9)
    assert presence.observe([], now=11) == Change(left=(A, B))


def test_members_who_register_again_within_the_grace_never_left() -> None:
    presence = make_presence()
    presence.observe([], now=1)
    assert not presence.observe([A], now=2)
    assert not presence.observe([A, B], now=3)
    assert presence.observe([A], now=4) == Change(left=(B,))


def test_after_an_outage_missing_members_are_doubted() -> None:
    presence = make_presence()
    presence.lost_contact()
    assert not presence.observe([A], now=50)
    assert presence.observe([A], now=60) == Change(left=(B,))


def test_newcomers_are_seen_during_the_grace() -> None:
    newcomer = make_member("c")
    presence = make_presence()
    presence.lost_contact()
    assert presence.observe([newcomer], now=1) == Change(joined=(newcomer,))
    assert set(presence.present) == {"a", "b", "c"}
