from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from kvtransfer import control, messages
from kvtransfer.causes import Cause
from kvtransfer.control import ControlChannel
from kvtransfer.inprocess import InProcessNetwork, InProcessTransport
from kvtransfer.links import Links
from kvtransfer.messages import MAX_CONTROL_BYTES, Cancel, Message, Ping, Pong, Refuse
from kvtransfer.seal import Seal
from kvtransfer.transport import Kind, Link
from proto.fleet_key import KEY_BYTES, FleetKey
from tests.kvtransfer.builders import SEAL, make_demand, make_load, make_ticket


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
        self.channel = ControlChannel(self.transport, self.links, SEAL)

    def link_to(self, address: bytes) -> Link:
        link = self.links.get(address)
        assert link is not None
        return link

    def take(self) -> list[Message]:
        return [message for message, _ in self.channel.take()]


CANCEL = Cancel(make_ticket(), make_load())
REFUSE = Refuse(make_ticket(), make_load(), Cause.REVOKED, "no")


@pytest.fixture
def ends() -> tuple[End, End]:
    network = InProcessNetwork()
    return End(network), End(network)


def test_messages_come_in_order(ends: tuple[End, End]) -> None:
    here, there = ends
    sent: list[Message] = [
        make_demand(num_tokens=7),
        Cancel(make_ticket(2), make_load()),
        Refuse(make_ticket(3), make_load(), Cause.USED, "used"),
        Ping(b"here"),
        Pong(),
    ]
    for message in sent:
        here.channel.tell(here.link_to(there.transport.address), message)
    assert here.channel.num_under_way == 5
    assert there.take() == sent
    assert there.take() == []
    here.take()
    assert here.channel.num_under_way == there.channel.num_under_way == 0


def test_answers_come_back_on_the_link(ends: tuple[End, End]) -> None:
    here, there = ends
    link = here.link_to(there.transport.address)
    there.channel.tell(there.link_to(link.address), REFUSE)
    assert here.channel.take() == [(REFUSE, link)]


def test_it_is_known_which_links_are_alive(ends: tuple[End, End]) -> None:
    """That a message has left says nothing of the peer; that one has come does."""
    here, there = ends
    link = here.link_to(there.transport.address)
    here.channel.tell(link, CANCEL)
    there.take()
    here.take()
    assert here.channel.take_live_links() == set()
    there.channel.tell(there.link_to(link.address), REFUSE)
    here.take()
    assert here.channel.take_live_links() == {link}
    assert here.channel.take_live_links() == set()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff" * 100, id="nonsense"),
        pytest.param(b"\x92\xa6canc\xff\xfe", id="not-utf8"),
        pytest.param(b"\x92" * MAX_CONTROL_BYTES, id="deep"),
        pytest.param(bytes(MAX_CONTROL_BYTES + 1), id="oversize"),
        pytest.param(
            SEAL.close(messages.encode(CANCEL)) + bytes(MAX_CONTROL_BYTES), id="oversize-good"
        ),
        pytest.param(messages.encode(CANCEL), id="without-a-seal"),
        pytest.param(
            Seal(FleetKey(b"o" * KEY_BYTES)).close(messages.encode(CANCEL)), id="another-fleet's"
        ),
        pytest.param(SEAL.close(messages.encode(CANCEL))[:-1], id="cut"),
        pytest.param(SEAL.close(b"\xff" * 100), id="nonsense-of-ours"),
    ],
)
def test_a_message_that_is_none_of_ours_is_skipped(ends: tuple[End, End], data: bytes) -> None:
    here, there = ends
    link = here.link_to(there.transport.address)
    link.send(Kind.CONTROL, np.frombuffer(data, np.uint8))
    here.channel.tell(link, CANCEL)
    assert there.take() == [CANCEL]


@pytest.mark.parametrize(
    ("data", "num_rejected"),
    [
        pytest.param(SEAL.close(messages.encode(CANCEL)), 0, id="good"),
        pytest.param(messages.encode(CANCEL), 1, id="without-a-seal"),
        pytest.param(SEAL.close(b"\xff"), 1, id="nonsense"),
    ],
)
def test_what_is_not_the_fleets_is_counted(
    ends: tuple[End, End], data: bytes, num_rejected: int
) -> None:
    here, there = ends
    here.link_to(there.transport.address).send(Kind.CONTROL, np.frombuffer(data, np.uint8))
    there.take()
    assert there.channel.num_rejected == num_rejected


def test_a_message_that_is_too_long_is_taken_into_no_buffer(ends: tuple[End, End]) -> None:
    """Else whoever reaches the inbox could keep a sender's half of it there."""
    here, there = ends
    too_long = np.zeros(MAX_CONTROL_BYTES + 1, np.uint8)
    sent = here.link_to(there.transport.address).send(Kind.CONTROL, too_long)
    assert there.take() == []
    assert (there.channel.num_rejected, there.channel.num_under_way) == (1, 0)
    assert sent.is_done


def test_what_waits_for_a_silent_peer_is_bounded(
    ends: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_UNDER_WAY", 2)
    here, there = ends
    link = here.link_to(there.transport.address)
    assert [here.channel.tell(link, CANCEL) for _ in range(3)] == [True, True, False]
    assert here.channel.num_under_way == 2
    assert len(there.take()) == 2


def test_a_silent_peer_is_found_and_holds_up_no_other(ends: tuple[End, End]) -> None:
    here, silent = ends
    other = End(here.network)
    stuck = here.link_to(silent.transport.address)
    here.channel.tell(stuck, CANCEL)
    here.channel.tell(here.link_to(other.transport.address), REFUSE)
    assert other.take() == [REFUSE]
    here.take()
    assert here.channel.num_under_way == 1
    assert here.channel.take_bad_links(before=float("inf")) == {stuck}
    assert here.channel.take_bad_links(before=0.0) == set()
    here.links.drop(silent.transport.address)
    here.take()
    assert here.channel.num_under_way == 0
