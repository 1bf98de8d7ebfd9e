from __future__ import annotations

from dataclasses import asdict, fields

from kvtransfer.stats import NUMBERS, Transfers, total


def test_ranks_add_up() -> None:
    one = asdict(
        Transfers(open_sends=1, sent_bytes=10, load_seconds=0.5, failures={"send_used": 2})
    )
    two = asdict(Transfers(open_sends=2, load_seconds=0.25, failures={"send_used": 1, "x": 1}))
    assert total([one, two]) == Transfers(
        open_sends=3, sent_bytes=10, load_seconds=0.75, failures={"send_used": 3, "x": 1}
    )


def test_what_a_rank_does_not_say_counts_as_nothing() -> None:
    assert total([]) == Transfers()
    assert total([{"open_sends": 1, "of a later version": 1}]) == Transfers(open_sends=1)


def test_every_number_is_added() -> None:
    assert {*NUMBERS, "failures"} == {each.name for each in fields(Transfers)}
    ones = dict.fromkeys(NUMBERS, 1)
    assert all(getattr(total([ones, ones]), name) == 2 for name in NUMBERS)
