"""Conversations say what they may cost, and notice when they cost more."""

from __future__ import annotations

from dataclasses import replace

from tests.suites.talk import Count, Script, Turn, table

FIRST = Turn.after(
    None, "Ann", "0", tuple(range(100)), (7, 8), "way=remote; prefill=p; decode=d; uncached=100"
)
SECOND = Turn.after(
    FIRST, "Ann", "1", tuple(range(150)), (9,), "way=remote; prefill=p; decode=d; uncached=54"
)


def test_scripts_of_one_seed_are_the_same_and_begin_differently() -> None:
    ann, ben = (Script.make(name, 1, 10) for name in ("Ann", "Ben"))
    assert ann == Script.make("Ann", 1, 10)
    assert ann.system[:20] != ben.system[:20]
    assert len(ann.turns) == len(set(ann.turns)) == 10
    assert ann.turns != Script.make("Ann", 2, 10).turns


def test_a_first_turn_is_new_as_a_whole() -> None:
    assert (FIRST.number, FIRST.num_new, FIRST.allowed(32)) == (1, 100, 100)


def test_a_later_turn_may_compute_from_the_block_in_which_the_new_part_begins() -> None:
    assert (SECOND.number, SECOND.num_new, SECOND.allowed(32)) == (2, 50, 150 - 96)
    assert SECOND.allowed(128) == 150


def test_a_prompt_that_changed_is_new_from_there() -> None:
    changed = Turn.after(FIRST, "Ann", "0", (*range(70), -1, *range(71, 150)), (), "")
    assert (changed.known, changed.num_new) == (70, 80)


def test_the_path_is_who_computed_and_who_decoded() -> None:
    alone = replace(SECOND, route="way=local; prefill=d; decode=d; uncached=1; control")
    assert (SECOND.path(), alone.path()) == ("p > d", "d alone")


def test_what_was_computed_beyond_the_new_part_is_a_problem() -> None:
    within = Count((SECOND,), {"p": 30, "d": 24}, 32)
    beyond = replace(within, computed={"p": 30, "d": 25})
    assert list(within.problems()) == []
    assert list(beyond.problems()) == ["Ann, turn 2: 55 tokens were computed, of 54 at most"]


def test_of_turns_at_once_each_is_judged_by_its_plan() -> None:
    other = replace(SECOND, conversation="Ben", route=SECOND.route.replace("54", "150"))
    both = Count((SECOND, other), {"p": 108}, 32)
    (problem,) = both.problems()
    assert problem == "Ben, turn 2: 150 tokens were to be computed, of 54 at most"


def test_the_table_has_a_line_for_each_count_and_sums() -> None:
    counts = [Count((FIRST,), {"p": 100}, 32), Count((SECOND,), {"p": 54}, 32)]
    lines = table(counts).splitlines()
    assert lines[2].split() == ["2", "Ann", "1", "150", "50", "54", "54", "p", ">", "d"]
    assert lines[-1].split() == ["all", "250", "150", "154", "154"]
