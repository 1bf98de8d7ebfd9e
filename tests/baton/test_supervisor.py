from __future__ import annotations

from baton.supervisor import GiveUp, Phase, Restart, Supervisor

NAMES = ("valkey", "prefill-0", "decode-0", "gateway")
TIERS = (2, 1, 1, 0)


def make_supervisor(*, is_up: bool = True) -> Supervisor:
    supervisor = Supervisor(zip(NAMES, TIERS, strict=True))
    for name in NAMES:
        supervisor.started(name, now=0)
        if is_up:
            supervisor.ready(name, now=10)
    return supervisor


def die(supervisor: Supervisor, now: float) -> Restart | GiveUp:
    supervisor.check_integrity()
    return supervisor.exited("decode-0", now)


def test_it_is_up_once_all_were_ready() -> None:
    supervisor = make_supervisor(is_up=False)
    assert supervisor.ready("valkey", now=2) == 2
    assert not supervisor.is_up
    assert supervisor.waiting_for() == ("prefill-0", "decode-0", "gateway")
    for name in supervisor.waiting_for():
        supervisor.ready(name, now=20)
    assert supervisor.is_up


def test_a_death_before_it_is_up_ends_everything() -> None:
    supervisor = make_supervisor(is_up=False)
    assert isinstance(die(supervisor, now=5), GiveUp)


def test_a_death_after_one_was_ready_but_not_all_ends_everything() -> None:
    supervisor = make_supervisor(is_up=False)
    supervisor.ready("decode-0", now=5)
    assert isinstance(die(supervisor, now=6), GiveUp)


def test_pauses_grow_to_thirty_seconds_while_it_keeps_dying() -> None:
    supervisor = make_supervisor()
    pauses = []
    for now in range(20, 28):
        verdict = die(supervisor, now)
        assert isinstance(verdict, Restart)
        pauses.append(verdict.after_seconds)
        supervisor.started("decode-0", now)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    assert supervisor.restarts("decode-0") == 8


def test_after_a_steady_while_the_pause_is_short_again() -> None:
    supervisor = make_supervisor()
    for now in (11, 12, 13):
        die(supervisor, now)
        supervisor.started("decode-0", now)
    supervisor.ready("decode-0", now=20)
    assert die(supervisor, now=79) == Restart(8)
    supervisor.started("decode-0", now=87)
    supervisor.ready("decode-0", now=100)
    assert die(supervisor, now=160) == Restart(1)


def test_it_stays_up_while_one_is_started_again() -> None:
    supervisor = make_supervisor()
    die(supervisor, now=20)
    assert supervisor.is_up
    assert supervisor.phase("decode-0") is Phase.WAITING
    assert repr(supervisor) == "<Supervisor 3 ready, 1 waiting>"


def test_what_depends_on_others_stops_first() -> None:
    supervisor = make_supervisor()
    assert supervisor.stop() == (("gateway",), ("prefill-0", "decode-0"), ("valkey",))


def test_nothing_is_started_again_while_it_stops() -> None:
    supervisor = make_supervisor()
    supervisor.stop()
    assert isinstance(die(supervisor, now=20), GiveUp)
    supervisor.check_integrity()
