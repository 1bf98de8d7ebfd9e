from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proto.builders import FLOAT_LAYOUT, LAYOUT, SMALLER_BLOCKS
from tests.worker.builders import make_introduction
from worker import peers as peers_module
from worker.errors import ProtocolBroken
from worker.peers import Peer, PeerBook

ONE, OTHER = Peer("p/1", (b"a",), "l"), Peer("p/2", (b"b",), "l")


def test_a_peer_is_known_in_the_sessions_that_introduced_it() -> None:
    book = PeerBook()
    book.introduce(1, ONE)
    assert book.find(1, "p/1") == ONE
    assert book.find(1, "p/2") is None
    assert book.find(2, "p/1") is None


def test_a_peer_is_gone_with_the_last_session_that_has_it() -> None:
    book = PeerBook()
    for session in (1, 2):
        book.introduce(session, ONE)
        book.introduce(session, ONE)
    book.part(1, "p/1")
    book.part(1, "p/1")
    assert book.peers == {ONE}
    book.close_session(2)
    book.close_session(2)
    assert book.peers == set()
    assert repr(book) == "<PeerBook: 0 peers, 1 sessions>"


def test_a_peer_may_move() -> None:
    book, moved = PeerBook(), Peer("p/1", (b"c",), "l")
    book.introduce(1, ONE)
    book.introduce(1, moved)
    assert book.peers == {moved}


def test_a_sessions_peers_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "MAX_PEERS", 1)
    book = PeerBook()
    book.introduce(1, ONE)
    book.introduce(1, ONE)
    with pytest.raises(ProtocolBroken, match="at most 1 peers"):
        book.introduce(1, OTHER)
    book.check_integrity()


def test_an_introduction_tells_what_stands_against_a_peers_kv() -> None:
    same = Peer.introduced(make_introduction(), LAYOUT)
    assert (same.key, same.addresses, same.obstacle) == ("worker-0/abc", (b"there",), None)
    assert Peer.introduced(make_introduction(layout=SMALLER_BLOCKS), LAYOUT).obstacle is None
    other = Peer.introduced(make_introduction(layout=FLOAT_LAYOUT), LAYOUT)
    assert other.obstacle is not None
    assert "float32" in other.obstacle


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["introduce", "part", "close"]),
        st.integers(1, 3),
        st.sampled_from([ONE, OTHER]),
    ),
    max_size=20,
)


@given(STEPS)
def test_any_order_of_events_leaves_what_the_sessions_have(
    steps: list[tuple[str, int, Peer]],
) -> None:
    book = PeerBook()
    known: dict[int, set[Peer]] = {1: set(), 2: set(), 3: set()}
    for what, session, peer in steps:
        if what == "introduce":
            book.introduce(session, peer)
            known[session].add(peer)
        elif what == "part":
            book.part(session, peer.key)
            known[session].discard(peer)
        else:
            book.close_session(session)
            known[session].clear()
        book.check_integrity()
    assert book.peers == set().union(*known.values())
