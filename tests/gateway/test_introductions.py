from __future__ import annotations

from typing import Any, cast

from gateway.introductions import Introductions, Party
from gateway.session import WorkerSession
from proto import worker_pb2
from proto.layout import KvLayout
from tests.proto.builders import FLOAT_LAYOUT, LAYOUT, SMALLER_BLOCKS

PREFILL, DECODE = worker_pb2.ROLE_PREFILL, worker_pb2.ROLE_DECODE


def make_party(key: str, *roles: worker_pb2.Role, layout: KvLayout = LAYOUT) -> Party:
    """In a session of its own."""
    worker_id, _, incarnation = key.partition("/")
    description = worker_pb2.Description(
        worker_id=worker_id,
        incarnation=incarnation,
        roles=roles or [PREFILL if key.startswith("p") else DECODE],
        transfer_addresses=[key.encode()],
        kv_layout=layout.to_proto(),
    )
    return Party(key, cast("WorkerSession", object()), description, layout)


def told(introductions: Introductions, *parties: Party) -> list[tuple[str, str, str]]:
    """(to whom, what, of whom) is to be sent."""
    names: dict[Any, str] = {party.session: party.key for party in parties}
    found = []
    for session, message in introductions.update(parties):
        kind = message.WhichOneof("message") or ""
        about = getattr(message, kind)
        found.append((names[session], kind, f"{about.worker_id}/{about.incarnation}"))
    return found


def test_each_decode_worker_is_told_of_each_prefill_worker_once() -> None:
    introductions = Introductions()
    p1, p2, d1, d2 = map(make_party, ("p1/a", "p2/a", "d1/a", "d2/a"))
    assert told(introductions, p1) == []
    assert told(introductions, p1, d1) == [("d1/a", "introduce", "p1/a")]
    assert told(introductions, p1, d1) == []
    assert set(told(introductions, p1, p2, d1, d2)) == {
        ("d1/a", "introduce", "p2/a"),
        ("d2/a", "introduce", "p1/a"),
        ("d2/a", "introduce", "p2/a"),
    }


def test_an_introduction_says_where_and_how() -> None:
    p1, d1 = make_party("p1/a", layout=SMALLER_BLOCKS), make_party("d1/a")
    ((session, message),) = Introductions().update([p1, d1])
    assert session is d1.session
    assert list(message.introduce.transfer_addresses) == [b"p1/a"]
    assert KvLayout.from_proto(message.introduce.kv_layout) == SMALLER_BLOCKS


def test_a_lost_worker_is_parted_with_and_a_new_incarnation_introduced() -> None:
    introductions = Introductions()
    d1 = make_party("d1/a")
    told(introductions, make_party("p1/a"), d1)
    assert told(introductions, d1) == [("d1/a", "part", "p1/a")]
    assert told(introductions, d1) == []
    assert told(introductions, make_party("p1/b"), d1) == [("d1/a", "introduce", "p1/b")]


def test_a_decode_worker_that_is_back_knows_nobody() -> None:
    introductions = Introductions()
    p1 = make_party("p1/a")
    told(introductions, p1, make_party("d1/a"))
    assert told(introductions, p1) == []
    assert told(introductions, p1, make_party("d1/a")) == [("d1/a", "introduce", "p1/a")]


def test_who_will_never_be_paired_need_not_meet() -> None:
    odd = make_party("p1/a", layout=FLOAT_LAYOUT)
    assert told(Introductions(), odd, make_party("d1/a")) == []


def test_a_worker_of_both_roles_is_on_both_sides() -> None:
    both, other = make_party("b/a", PREFILL, DECODE), make_party("c/a", PREFILL, DECODE)
    assert set(told(Introductions(), both, other)) == {
        ("b/a", "introduce", "c/a"),
        ("c/a", "introduce", "b/a"),
    }
