from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kvtransfer.flight import Flight, Flights
from kvtransfer.inprocess import InProcessNetwork
from kvtransfer.transport import Link


@dataclass
class Operation:
    is_done: bool = False
    is_ok: bool = False


def make_link() -> Link:
    network = InProcessNetwork()
    return network.transport().connect(network.transport().address)


def fly(flights: Flights, link: Link | None, started_at: float = 0.0) -> Operation:
    operation = Operation()
    flights.add(Flight(operation, np.zeros(1, np.uint8), 1, link, started_at))
    return operation


def end(operation: Operation, is_ok: bool = True) -> None:
    operation.is_done, operation.is_ok = True, is_ok


def test_what_is_done_is_taken_in_order() -> None:
    flights, link = Flights(), make_link()
    first, second, third = (fly(flights, link) for _ in range(3))
    assert (len(flights), flights.num_on(link), flights.num_on(make_link())) == (3, 3, 0)
    end(third)
    end(first)
    assert [flight.operation for flight in flights.take_done()] == [first, third]
    assert (len(flights), flights.num_on(link)) == (1, 1)
    end(second)
    assert [flight.operation for flight in flights.take_done()] == [second]


def test_a_link_that_has_lost_something_is_bad_once() -> None:
    flights, good, bad = Flights(), make_link(), make_link()
    end(fly(flights, good))
    end(fly(flights, bad), is_ok=False)
    flights.take_done()
    assert flights.take_bad_links(before=0.0) == {bad}
    assert flights.take_bad_links(before=0.0) == set()


def test_a_link_on_which_something_makes_no_way_is_bad_until_it_does() -> None:
    flights, link = Flights(), make_link()
    operation = fly(flights, link, started_at=5.0)
    assert flights.take_bad_links(before=5.0) == set()
    assert flights.take_bad_links(before=5.1) == {link}
    assert flights.take_bad_links(before=5.1) == {link}
    end(operation)
    assert flights.take_bad_links(before=5.1) == set()


def test_a_link_that_is_blamed_is_bad() -> None:
    flights, link = Flights(), make_link()
    flights.blame(link)
    flights.blame(None)
    assert flights.take_bad_links(before=0.0) == {link}


def test_a_link_is_alive_when_something_has_made_its_way() -> None:
    flights, good, bad = Flights(), make_link(), make_link()
    end(fly(flights, good))
    end(fly(flights, bad), is_ok=False)
    end(fly(flights, None))
    fly(flights, make_link())
    flights.take_done()
    assert flights.take_live_links() == {good}
    assert flights.take_live_links() == set()
