"""What a link of UCX takes from the machine, it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from kvtransfer.transport import Kind
from kvtransfer.ucx import UcxTransport

NUM_LINKS = 5
NUM_TURNS = 100
# Longer than what any transport takes before the receiver does: it waits for one.
LARGE = 4 << 20

Ends = tuple[UcxTransport, UcxTransport]


@pytest.fixture(params=[b"here", b"elsewhere"], ids=["inside-a-host", "between-hosts"])
def ends(request: pytest.FixtureRequest) -> Iterator[Ends]:
    with (
        closing(UcxTransport(host=b"here")) as here,
        closing(UcxTransport(host=request.param)) as there,
    ):
        yield here, there


def poll(ends: Ends) -> None:
    for _ in range(NUM_TURNS):
        for end in ends:
            end.poll(0)


def num_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def num_segments() -> int:
    """Of shared memory."""
    return Path("/proc/self/maps").read_text().count("/SYSV")


def close_a_link_that_sends(ends: Ends) -> None:
    here, there = ends
    link = here.connect(there.address)
    sending = link.send(Kind.SEGMENT, np.ones(LARGE, np.uint8))
    for _ in range(NUM_TURNS):
        here.poll(0)
    assert not sending.is_done
    link.close()
    poll(ends)


def close_an_idle_link(ends: Ends) -> None:
    here, there = ends
    link = here.connect(there.address)
    link.send(Kind.CONTROL, np.ones(64, np.uint8))
    poll(ends)
    link.close()
    poll(ends)


@pytest.mark.parametrize("make_and_close", [close_a_link_that_sends, close_an_idle_link])
def test_closed_links_leave_nothing(ends: Ends, make_and_close: Callable[[Ends], None]) -> None:
    make_and_close(ends)
    descriptors, segments = num_descriptors(), num_segments()
    for _ in range(NUM_LINKS):
        make_and_close(ends)
    assert num_descriptors() <= descriptors
    assert num_segments() <= segments
