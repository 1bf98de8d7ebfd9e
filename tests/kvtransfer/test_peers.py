from __future__ import annotations

from dataclasses import dataclass, field

from kvtransfer.causes import Cause
from kvtransfer.inprocess import InProcessNetwork, InProcessTransport
from kvtransfer.ledgers import Ledgers
from kvtransfer.links import Links
from kvtransfer.loads import LoadLedger
from kvtransfer.mover_config import MoverConfig
from kvtransfer.peers import Peers
from kvtransfer.sends import SendLedger
from tests.kvtransfer.builders import LAYOUT, make_demand, make_order, make_source, make_ticket

CONFIG = MoverConfig(ping_seconds=1.0, stall_seconds=3.0)


@dataclass
class Watch:
    """One worker's view of the others, over half a minute at most."""

    network: InProcessNetwork = field(default_factory=InProcessNetwork)
    sends: SendLedger = field(default_factory=lambda: SendLedger(make_source()))
    loads: LoadLedger = field(default_factory=lambda: LoadLedger(LAYOUT))
    links: Links = field(init=False)
    peers: Peers = field(init=False)

    def __post_init__(self) -> None:
        self.links = Links(self.network.transport())
        self.peers = Peers(self.links, Ledgers(self.sends, self.loads), CONFIG)

    def load_from(self, address: bytes, number: int = 1) -> None:
        order = make_order(make_ticket(number), f"d{number}", source_addresses=(address,))
        self.loads.open(order, 0.0)

    def send_to(self, address: bytes, number: int = 1) -> None:
        self.sends.open(make_ticket(number), f"p{number}", 30.0, 0.0)
        self.sends.demand(make_demand(make_ticket(number), reply_address=address), 0.0)

    def lost(self, start: float, end: float) -> list[tuple[bytes, Cause]]:
        """Looks every half second."""
        found: list[tuple[bytes, Cause]] = []
        now = start
        while now <= end:
            found += self.peers.lost(now, ())
            now += 0.5
        return found


def peer(watch: Watch) -> InProcessTransport:
    """Another worker, to which there is a link."""
    transport = watch.network.transport()
    watch.links.get(transport.address)
    return transport


def test_a_silent_source_is_lost() -> None:
    watch = Watch()
    address = peer(watch).address
    watch.load_from(address)
    assert watch.lost(0.0, 2.5) == []
    assert watch.lost(3.0, 3.0) == [(address, Cause.PEER_SILENT)]


def test_a_silent_receiver_is_lost() -> None:
    watch = Watch()
    address = peer(watch).address
    watch.send_to(address)
    assert watch.lost(0.0, 2.5) == []
    assert watch.lost(3.0, 3.0) == [(address, Cause.PEER_SILENT)]


def test_a_peer_of_which_nothing_is_expected_may_be_silent() -> None:
    watch = Watch()
    peer(watch)
    assert watch.lost(0.0, 30.0) == []
    assert watch.peers.take_due(30.0) == []


def test_sources_are_asked_and_receivers_ask_themselves() -> None:
    watch = Watch()
    source, receiver = peer(watch), peer(watch)
    watch.load_from(source.address, 1)
    watch.send_to(receiver.address, 2)
    watch.lost(0.0, 0.5)
    assert watch.peers.take_due(1.0) == [source.address]


def test_what_a_peer_says_keeps_it() -> None:
    watch = Watch()
    source, receiver = peer(watch), peer(watch)
    watch.load_from(source.address, 1)
    watch.send_to(receiver.address, 2)
    watch.lost(0.0, 2.0)
    watch.peers.heard_from(receiver.address, 2.5)
    watch.peers.heard_on(watch.links.find(source.address), 2.5)
    watch.peers.heard_on(None, 2.5)
    assert watch.lost(2.5, 5.0) == []
    assert watch.lost(5.5, 5.5) == [
        (source.address, Cause.PEER_SILENT),
        (receiver.address, Cause.PEER_SILENT),
    ]


def test_a_peer_that_is_gone_is_lost_at_the_next_look() -> None:
    watch = Watch()
    gone = peer(watch)
    watch.load_from(gone.address)
    assert watch.lost(0.0, 0.0) == []
    gone.close()
    assert watch.lost(0.5, 0.5) == [(gone.address, Cause.LINK_LOST)]


def test_it_looks_only_now_and_then() -> None:
    watch = Watch()
    gone = peer(watch)
    assert list(watch.peers.lost(1.0, ())) == []
    gone.close()
    assert list(watch.peers.lost(1.0 + watch.peers.look_seconds / 2, ())) == []
    assert list(watch.peers.lost(1.0 + watch.peers.look_seconds, ())) != []
