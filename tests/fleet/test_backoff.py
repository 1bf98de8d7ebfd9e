from __future__ import annotations

from fleet.backoff import Backoff


def test_pauses_double_up_to_the_last_and_start_anew_after_a_reset() -> None:
    backoff = Backoff(first_seconds=1, last_seconds=5, jitter=False)
    assert [backoff.next() for _ in range(4)] == [1, 2, 4, 5]
    backoff.reset()
    assert backoff.next() == 1


def test_jitter_stays_in_the_upper_half() -> None:
    pauses = [Backoff(first_seconds=2).next() for _ in range(100)]
    assert all(1 <= pause <= 2 for pause in pauses)


def test_endless_failures_do_not_overflow() -> None:
    backoff = Backoff(first_seconds=1, last_seconds=5)
    backoff.failures = 10_000
    assert backoff.next() <= 5
