from __future__ import annotations

import pytest

from gateway.errors import WorkerFull
from gateway.request_book import RequestBook
from gateway.routing.decider import Mode
from gateway.routing.way import Way
from tests.gateway.builders import TICKETS, TIMEOUTS, make_report
from tests.gateway.routing.builders import Desk, make_fleet, make_prompt


def make_book(mode: Mode = Mode.ALWAYS) -> RequestBook:
    desk = Desk(make_fleet(), mode)
    return RequestBook(desk.dispatcher, TICKETS, TIMEOUTS)


def serve(
    book: RequestBook,
    name: str,
    first_token_seconds: float,
    num_outputs: int = 1,
    max_tokens: int | None = 10,
) -> None:
    """Of 1000 tokens; prefill takes a second."""
    book.add(make_prompt(name, 1000, max_tokens), 0.0)
    book.prefill_ended(f"prefill:{name}", 1.0)
    life = book.lives[name]
    book.first_token(life, first_token_seconds)
    life.num_outputs = num_outputs
    book.finished(life, first_token_seconds + 0.5 * (num_outputs - 1))
    book.check_integrity()


def link(book: RequestBook) -> float:
    table = book.dispatcher.table
    return book.dispatcher.router.pairs.rate(table.rows["p1"], table.rows["d1"])


def test_a_hand_off_in_time_shows_no_limit_of_its_link() -> None:
    book = make_book()
    serve(book, "a", 1.01)
    assert link(book) == float("inf")


def test_a_hand_off_that_is_late_shows_what_its_link_can_do() -> None:
    book = make_book()
    for name in "ab":
        serve(book, name, 4.01)
    per_token = book.dispatcher.table.facts(0).layout.bytes_per_token
    assert link(book) == pytest.approx(1000 * per_token / 4, rel=0.05)


def test_what_was_computed_where_it_is_decoded_says_nothing_of_links() -> None:
    book = make_book(Mode.NEVER)
    serve(book, "a", 4.0)
    assert link(book) == 0


def test_times_are_learned_by_way_and_size() -> None:
    book = make_book()
    serve(book, "a", 1.5, num_outputs=5)
    seen = book.dispatcher.router.decider.seen[1024]
    assert seen[Way.REMOTE].number == 1
    assert seen[Way.REMOTE].ttft_seconds == 1.5
    assert seen[Way.REMOTE].itl_seconds == pytest.approx(0.5)
    assert seen[Way.LOCAL].number == 0


def test_the_length_of_an_answer_is_learned_where_nothing_cut_it_off() -> None:
    book = make_book()
    for number in range(40):
        serve(book, f"cut-{number}", 1.0, num_outputs=4000, max_tokens=4000)
    before = book.dispatcher.lengths.expected
    for number in range(40):
        serve(book, f"free-{number}", 1.0, num_outputs=20, max_tokens=None)
    assert book.dispatcher.lengths.expected < before
    assert 20 <= book.dispatcher.lengths.expected < 40


def test_a_request_whose_worker_has_left_teaches_nothing_about_pairs() -> None:
    book = make_book()
    book.add(make_prompt("a", 1000), 0.0)
    book.prefill_ended("prefill:a", 1.0)
    book.dispatcher.table.remove("p1")
    book.first_token(book.lives["a"], 5.0)
    book.check_integrity()


def test_what_was_sent_is_counted_once() -> None:
    book = make_book()
    counts = book.dispatcher.counts
    book.add(make_prompt("a", 1000), 0.0)
    assert counts.prompt_tokens == 1000
    assert counts.hit_rate == 0
    # The worker has promised its room to others: it waits, and goes there again.
    book.leg_failed("d1", "a", WorkerFull("d1", "full"), 0.1)
    assert repr(book.dispatcher.lanes) == "<Lanes 1 waiting for 1 workers>"
    book.reported("d1", make_report(), 1.0)
    book.begin(1.0)
    assert repr(book.dispatcher.lanes) == "<Lanes 0 waiting for 0 workers>"
    assert counts.prompt_tokens == 1000
