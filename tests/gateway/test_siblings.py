from __future__ import annotations

from gateway.siblings import Siblings


def make_siblings(*members: str) -> Siblings:
    siblings = Siblings()
    for member in members:
        siblings.join(member)
    return siblings


def test_the_first_leads_and_the_others_wait() -> None:
    siblings = Siblings()
    assert [siblings.join(name) for name in "abc"] == [False, True, True]
    assert siblings.leader == "a"
    siblings.check_integrity()


def test_the_others_follow_the_leader_home() -> None:
    siblings = make_siblings("a", "b", "c")
    assert siblings.arrive("d1") == ["b", "c"]
    assert siblings.join("late") is False
    siblings.check_integrity()


def test_another_leads_when_the_leader_ends_early() -> None:
    siblings = make_siblings("a", "b", "c")
    assert siblings.leave("a") == "b"
    assert siblings.arrive("d1") == ["c"]
    siblings.check_integrity()


def test_nobody_leads_after_the_last() -> None:
    siblings = make_siblings("a")
    assert siblings.leave("a") is None
    assert siblings.leader is None
    assert not siblings.members


def test_a_leader_that_ends_at_home_needs_no_successor() -> None:
    siblings = make_siblings("a", "b")
    siblings.arrive("d1")
    assert siblings.leave("a") is None
    siblings.check_integrity()


def test_who_withdrew_cannot_lead() -> None:
    siblings = make_siblings("a", "b", "c")
    siblings.withdraw("b")
    assert siblings.leave("a") == "c"


def test_when_home_is_lost_the_next_to_come_leads() -> None:
    siblings = make_siblings("a", "b")
    siblings.arrive("d1")
    siblings.lose_home("elsewhere")
    assert siblings.home == "d1"
    siblings.lose_home("d1")
    assert siblings.join("c") is False
    assert siblings.leader == "c"
    siblings.check_integrity()
