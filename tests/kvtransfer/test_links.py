from __future__ import annotations

import numpy as np
import pytest

from kvtransfer.inprocess import InProcessNetwork
from kvtransfer.links import Links
from kvtransfer.transport import Kind
from tests.kvtransfer.wrapped import BoundedTransport


def test_there_is_one_link_to_an_address() -> None:
    network = InProcessNetwork()
    here, there = network.transport(), network.transport()
    links = Links(here)
    assert links.find(there.address) is None
    link = links.get(there.address)
    assert links.get(there.address) is links.find(there.address) is link
    assert list(links) == [link]


def test_a_link_knows_where_it_leads_until_it_is_dropped() -> None:
    network = InProcessNetwork()
    there = network.transport()
    links = Links(network.transport())
    link = links.get(there.address)
    assert link is not None
    assert links.address_of(link) == there.address
    links.drop(there.address)
    assert links.address_of(link) is None


def test_an_address_without_a_way_is_logged_and_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    links = Links(InProcessNetwork().transport())
    for _ in range(2):
        assert links.get(b"nowhere") is None
    assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
    assert len(links) == 0


def test_a_dropped_link_is_closed_and_made_anew() -> None:
    network = InProcessNetwork()
    here, there = network.transport(), network.transport()
    links = Links(here)
    link = links.get(there.address)
    assert link is not None
    operation = link.send(Kind.CONTROL, np.zeros(1, np.uint8))
    links.drop(there.address)
    assert (operation.is_done, operation.is_ok) == (True, False)
    links.drop(there.address)
    assert links.get(there.address) is not link


def test_a_peer_is_to_be_told_by_a_new_link_of_those_that_were_closed() -> None:
    network = InProcessNetwork()
    there, elsewhere = network.transport(), network.transport()
    links = Links(network.transport())
    left = []
    for _ in range(2):
        link = links.get(there.address)
        assert link is not None
        left.append(link.address)
        links.drop(there.address)
    links.get(elsewhere.address)
    assert links.take_left() == []
    link = links.get(there.address)
    assert links.take_left() == [(link, address) for address in left]
    assert links.take_left() == []


def test_beyond_the_bound_the_longest_unused_link_is_closed() -> None:
    network = InProcessNetwork()
    links = Links(BoundedTransport(network.transport(), 2))
    one, two, three = (network.transport().address for _ in range(3))
    first, second = links.get(one), links.get(two)
    links.get(one)
    assert links.take_evicted() == []
    third = links.get(three)
    assert list(links) == [first, third]
    assert links.take_evicted() == [two]
    assert links.take_evicted() == []
    assert second is not None
    assert links.address_of(second) is None
    assert links.get(two) is not second
    assert links.take_evicted() == [one]


def test_a_link_whose_peer_is_gone_is_broken() -> None:
    network = InProcessNetwork()
    gone, there = network.transport(), network.transport()
    links = Links(network.transport())
    links.get(gone.address)
    links.get(there.address)
    assert links.broken() == []
    gone.close()
    assert links.broken() == [gone.address]
    links.drop(gone.address)
    assert links.broken() == []


def test_closing_ends_what_is_under_way() -> None:
    network = InProcessNetwork()
    links = Links(network.transport())
    link = links.get(network.transport().address)
    assert link is not None
    operation = link.send(Kind.SEGMENT, np.zeros(1, np.uint8))
    links.close()
    assert (operation.is_done, operation.is_ok) == (True, False)
    assert len(links) == 0
