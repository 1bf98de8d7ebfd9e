from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from kvtransfer import control, messages
from kvtransfer.control import ControlChannel
from kvtransfer.inprocess import InProcessNetwork, InProcessTransport
from kvtransfer.links import Links
from kvtransfer.messages import MAX_CONTROL_BYTES, Cancel, Message, Refuse
from kvtransfer.transport import Kind, Link
from tests.kvtransfer.builders import make_demand, make_ticket


@dataclass
class End:
    """One worker's control channel."""

    network: InProcessNetwork
    transport: InProcessTransport = field(init=False)
    links: Links = field(init=False)
    channel: ControlChannel = field(init=False)

    def __post_init__(self) -> None:
        self.transport = self.network.transport()
        self.links = Links(self.transport)
        self.channel = ControlChannel(self.transport, self.links)

    def link_to(self, address: bytes) -> Link:
        link = self.links.get(address)
        assert link is not None
        return link


@pytest.fixture
def ends() -> tuple[End, End]:
    network = InProcessNetwork()
    return End(network), End(network)


def test_messages_come_in_order(ends: tuple[End, End]) -> None:
    here, there = ends
    sent: list[Message] = [
        make_demand(num_tokens=7),
        Cancel(make_ticket(2)),
        Refuse(make_ticket(3), "used"),
    ]
    for message in sent:
        here.channel.tell(here.link_to(there.transport.address), message)
    assert here.channel.num_under_way == 3
    assert there.channel.take() == sent
    assert there.channel.take() == []
    here.channel.take()
    assert here.channel.num_under_way == there.channel.num_under_way == 0


def test_answers_come_back_on_the_link(ends: tuple[End, End]) -> None:
    here, there = ends
    link = here.link_to(there.transport.address)
    there.channel.tell(there.link_to(link.address), Refuse(make_ticket(), "no"))
    assert here.channel.take() == [Refuse(make_ticket(), "no")]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 100, id="nonsense"),
        pytest.param(b"\x92\xa6canc\xff\xfe", id="not-utf8"),
        pytest.param(b"\x92" * MAX_CONTROL_BYTES, id="deep"),
        pytest.param(bytes(MAX_CONTROL_BYTES + 1), id="oversize"),
        pytest.param(
            messages.encode(Cancel(make_ticket())) + bytes(MAX_CONTROL_BYTES), id="oversize-good"
        ),
    ],
)
def test_a_malformed_message_is_skipped(ends: tuple[End, End], data: bytes) -> None:
    here, there = ends
    link = here.link_to(there.transport.address)
    link.send(Kind.CONTROL, np.frombuffer(data, np.uint8))
    here.channel.tell(link, Cancel(make_ticket()))
    assert there.channel.take() == [Cancel(make_ticket())]


def test_a_message_to_nowhere_is_dropped(ends: tuple[End, End]) -> None:
    here, _ = ends
    here.channel.tell(None, Cancel(make_ticket()))
    assert (here.channel.num_dropped, here.channel.num_under_way) == (1, 0)


def test_what_waits_for_a_silent_peer_is_bounded(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_UNDER_WAY", 2)
    here, there = ends
    link = here.link_to(there.transport.address)
    for _ in range(3):
        here.channel.tell(link, Cancel(make_ticket()))
    assert (here.channel.num_dropped, here.channel.num_under_way) == (1, 2)
    assert len(there.channel.take()) == 2


def test_a_silent_peer_is_found_and_holds_up_no_other(ends: tuple[End, End]) -> None:
    here, silent = ends
    other = End(here.network)
    stuck = here.link_to(silent.transport.address)
    here.channel.tell(stuck, Cancel(make_ticket(1)))
    here.channel.tell(here.link_to(other.transport.address), Cancel(make_ticket(2)))
    assert other.channel.take() == [Cancel(make_ticket(2))]
    here.channel.take()
    assert here.channel.num_under_way == 1
    assert here.channel.take_bad_links(before=float("inf")) == {stuck}
    assert here.channel.take_bad_links(before=0.0) == set()
    here.links.drop(stuck)
    here.channel.take()
    assert here.channel.num_under_way == 0
