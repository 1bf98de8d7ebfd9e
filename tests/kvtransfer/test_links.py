from __future__ import annotations

import numpy as np
import pytest

from kvtransfer import links as links_module
from kvtransfer.inprocess import InProcessNetwork
from kvtransfer.links import Links
from kvtransfer.transport import Kind


def test_there_is_one_link_to_an_address() -> None:
    network = InProcessNetwork()
    here, there = network.transport(), network.transport()
    links = Links(here)
    assert links.get(there.address) is links.get(there.address)
    assert len(links) == 1


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
    assert links.drop(link) == there.address
    assert (operation.is_done, operation.is_ok) == (True, False)
    assert links.drop(link) is None
    assert links.get(there.address) is not link


def test_beyond_the_bound_the_longest_unused_link_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(links_module, "MAX_LINKS", 2)
    network = InProcessNetwork()
    links = Links(network.transport())
    one, two, three = (network.transport().address for _ in range(3))
    first, second = links.get(one), links.get(two)
    links.get(one)
    third = links.get(three)
    assert list(links) == [first, third]
    assert second is not None
    assert links.drop(second) is None
    assert links.get(two) is not second


def test_closing_ends_what_is_under_way() -> None:
    network = InProcessNetwork()
    links = Links(network.transport())
    link = links.get(network.transport().address)
    assert link is not None
    operation = link.send(Kind.SEGMENT, np.zeros(1, np.uint8))
    links.close()
    assert (operation.is_done, operation.is_ok) == (True, False)
    assert len(links) == 0
