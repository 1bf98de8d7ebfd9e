from __future__ import annotations

import pytest

from kvtransfer import parking as parking_module
from kvtransfer.causes import Cause
from kvtransfer.errors import DemandRefused
from kvtransfer.parking import Parking
from tests.kvtransfer.builders import make_demand, make_ticket

T1, T2 = make_ticket(1), make_ticket(2)


def test_demands_of_one_ticket_leave_together() -> None:
    parking = Parking()
    demands = [make_demand(T1, rank=rank) for rank in range(2)]
    for demand in [*demands, make_demand(T2)]:
        parking.park(demand, 0.0)
    assert parking.take(T1) == demands
    assert parking.take(T1) == []
    assert (T1 in parking, T2 in parking, len(parking)) == (False, True, 1)
    parking.check_integrity()


def test_each_ticket_waits_for_its_own_lease() -> None:
    """However long a prompt may wait for its prefill: the gateway knows, this worker does not."""
    parking = Parking()
    parking.park(make_demand(T1, lease_seconds=1000.0), 5.0)
    parking.park(make_demand(T2, lease_seconds=1.0), 5.0)
    assert parking.next_deadline() == 6.0
    assert parking.expired(6.0) == [T2]
    assert parking.expired(1005.0) == [T1, T2]


def test_the_longest_lease_of_a_tickets_ranks_counts() -> None:
    parking = Parking()
    parking.park(make_demand(T1, rank=0, lease_seconds=9.0), 0.0)
    parking.park(make_demand(T1, rank=1, lease_seconds=1.0), 1.0)
    assert parking.next_deadline() == 9.0


def test_a_rank_asks_once() -> None:
    parking = Parking()
    parking.park(make_demand(T1), 0.0)
    with pytest.raises(DemandRefused) as refused:
        parking.park(make_demand(T1), 0.0)
    assert refused.value.cause is Cause.USED
    parking.check_integrity()


def test_room_is_bounded_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parking_module, "MAX_PARKED", 1)
    parking = Parking()
    parking.park(make_demand(T1), 0.0)
    with pytest.raises(DemandRefused) as refused:
        parking.park(make_demand(T2), 0.0)
    assert refused.value.cause is Cause.CROWDED
    parking.take(T1)
    parking.park(make_demand(T2), 0.0)
    assert list(parking) == [T2]
