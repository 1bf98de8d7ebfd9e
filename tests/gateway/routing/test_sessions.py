from __future__ import annotations

import pytest

from gateway.routing import sessions
from gateway.routing.sessions import MAX_ADAPTERS, Residency


def test_a_session_is_where_its_last_request_went() -> None:
    residency = Residency()
    assert residency.workers_of("s") == ()
    residency.note(("p1", "d1"), "s")
    residency.note(("d2",), "s")
    assert residency.workers_of("s") == ("d2",)


def test_without_a_name_nothing_is_remembered() -> None:
    residency = Residency()
    residency.note(("d1",))
    assert residency.workers_of("") == ()
    assert residency.with_lora("") == ()


def test_an_adapter_is_on_the_workers_that_had_it_lately() -> None:
    residency = Residency()
    residency.note(("p1", "d1"), lora="french")
    residency.note(("d2",), lora="german")
    assert residency.with_lora("french") == ("p1", "d1")
    assert residency.with_lora("latin") == ()


def test_an_engine_keeps_a_few_adapters_only() -> None:
    residency = Residency()
    names = [f"lora-{number}" for number in range(MAX_ADAPTERS + 1)]
    for name in names[:-1]:
        residency.note(("d1",), lora=name)
    residency.note(("d1",), lora=names[0])
    residency.note(("d1",), lora=names[-1])
    held = [name for name in names if residency.with_lora(name)]
    assert held == [names[0], *names[2:]]


def test_a_worker_that_is_gone_has_no_adapters() -> None:
    residency = Residency()
    residency.note(("d1", "d2"), lora="french")
    residency.forget("d1")
    residency.forget("nobody")
    assert residency.with_lora("french") == ("d2",)


def test_the_oldest_sessions_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 2)
    residency = Residency()
    for name in ("a", "b", "a", "c"):
        residency.note(("d1",), name)
    assert [bool(residency.workers_of(name)) for name in "abc"] == [True, False, True]
