from __future__ import annotations

from kvtransfer.liveness import Liveness

A, B = b"a", b"b"


def make_liveness() -> Liveness:
    """Asks each second; silent after three."""
    return Liveness(interval_seconds=1.0, silence_seconds=3.0)


def watch(liveness: Liveness, addresses: set[bytes], start: float, end: float) -> None:
    """Often enough that no pause is seen."""
    now = start
    while now <= end:
        liveness.watch(addresses, now)
        now += 0.5


def test_nobody_is_watched_at_first() -> None:
    liveness = make_liveness()
    assert liveness.take_due(100.0) == liveness.silent(100.0) == []
    assert repr(liveness) == "<Liveness: 0 watched>"


def test_a_peer_is_asked_each_interval() -> None:
    liveness = make_liveness()
    liveness.watch({A}, 10.0)
    assert liveness.take_due(10.9) == []
    assert liveness.take_due(11.0) == [A]
    assert liveness.take_due(11.9) == []
    assert liveness.take_due(12.0) == [A]


def test_a_peer_that_says_nothing_is_silent_after_a_while() -> None:
    liveness = make_liveness()
    watch(liveness, {A}, 10.0, 12.5)
    assert liveness.silent(12.9) == []
    assert liveness.silent(13.0) == [A]


def test_whatever_a_peer_says_counts() -> None:
    liveness = make_liveness()
    watch(liveness, {A, B}, 10.0, 12.5)
    liveness.heard(A, 12.0)
    assert liveness.silent(13.0) == [B]
    assert set(liveness.silent(15.0)) == {A, B}


def test_who_is_of_no_more_interest_is_forgotten() -> None:
    liveness = make_liveness()
    watch(liveness, {A, B}, 10.0, 12.5)
    liveness.watch({B}, 13.0)
    assert liveness.silent(13.0) == [B]
    assert liveness.take_due(13.0) == [B]
    assert repr(liveness) == "<Liveness: 1 watched>"


def test_who_comes_later_has_its_own_time() -> None:
    liveness = make_liveness()
    watch(liveness, {A}, 10.0, 12.0)
    watch(liveness, {A, B}, 12.5, 13.0)
    assert liveness.silent(13.0) == [A]
    assert liveness.silent(15.5) == [A, B]


def test_who_comes_back_has_its_time_again() -> None:
    liveness = make_liveness()
    watch(liveness, {A}, 10.0, 11.0)
    liveness.watch(set(), 11.5)
    watch(liveness, {A}, 12.0, 14.0)
    assert liveness.silent(14.0) == []
    assert liveness.silent(15.0) == [A]


def test_a_stranger_is_not_watched_because_it_speaks() -> None:
    liveness = make_liveness()
    liveness.heard(A, 10.0)
    assert repr(liveness) == "<Liveness: 0 watched>"


def test_who_was_silent_and_is_given_up_has_its_whole_time_again() -> None:
    """Else nothing that is asked of it right afterwards would ever have a chance."""
    liveness = make_liveness()
    watch(liveness, {A}, 10.0, 13.0)
    assert liveness.silent(13.0) == [A]
    liveness.forget(A)
    watch(liveness, {A}, 13.5, 16.0)
    assert liveness.silent(16.0) == []
    assert liveness.silent(16.5) == [A]


def test_after_a_pause_of_our_own_everybody_has_time_again() -> None:
    """It was this process that was stopped; the peers' answers may just not have been read."""
    liveness = make_liveness()
    watch(liveness, {A}, 10.0, 11.0)
    liveness.watch({A}, 60.0)
    assert liveness.silent(60.0) == []
    watch(liveness, {A}, 60.5, 62.5)
    assert liveness.silent(62.9) == []
    assert liveness.silent(63.0) == [A]


def test_a_pause_without_anybody_to_watch_is_none() -> None:
    liveness = make_liveness()
    liveness.watch(set(), 10.0)
    liveness.watch({A}, 60.0)
    watch(liveness, {A}, 60.5, 62.5)
    assert liveness.silent(63.0) == [A]
