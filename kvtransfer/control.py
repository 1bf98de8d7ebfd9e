"""Control messages over links: small, sealed, both ways, never waited for."""

from __future__ import annotations

import logging
import time

import numpy as np

from kvtransfer import messages
from kvtransfer.complaints import Complaints
from kvtransfer.errors import MalformedMessage
from kvtransfer.flight import Flight, Flights
from kvtransfer.links import Links
from kvtransfer.messages import MAX_CONTROL_BYTES, Message
from kvtransfer.seal import Seal
from kvtransfer.transport import Kind, Link, Transport

logger = logging.getLogger("vllm.baton.control")

MAX_UNDER_WAY = 4096


class ControlChannel:
    """Sends and takes messages. One that cannot be sent is dropped, and its sender told.

    What does not bear the fleet's seal, or is too long for a message, is counted and nothing
    else happens.
    """

    def __init__(self, transport: Transport, links: Links, seal: Seal) -> None:
        self._transport = transport
        self._links = links
        self._seal = seal
        self._sending = Flights()
        self._receiving = Flights()
        self._complaints = Complaints(logger)
        self.num_rejected = 0

    @property
    def num_under_way(self) -> int:
        return len(self._sending) + len(self._receiving)

    def tell(self, link: Link, message: Message) -> bool:
        """False if it is dropped, because too much is under way."""
        if len(self._sending) >= MAX_UNDER_WAY:
            return False
        data = np.frombuffer(self._seal.close(messages.encode(message)), np.uint8)
        operation = link.send(Kind.CONTROL, data)
        self._sending.add(Flight(operation, data, len(data), link, time.monotonic()))
        return True

    def take(self) -> list[tuple[Message, Link | None]]:
        """The messages that have come, in order, each with the link it came back on."""
        self._sending.take_done()
        self._receive(self._transport, None)
        for link in self._links:
            self._receive(link, link)
        taken: list[tuple[Message, Link | None]] = []
        for flight in self._receiving.take_done():
            if flight.operation.is_ok:
                taken.extend((message, flight.link) for message in self._decode(flight))
        return taken

    def take_bad_links(self, before: float) -> set[Link]:
        """See `Flights`."""
        return self._sending.take_bad_links(before) | self._receiving.take_bad_links(before)

    def take_live_links(self) -> set[Link]:
        """The links that something has come back on. That a message has left says nothing."""
        return self._receiving.take_live_links()

    def _receive(self, inbox: Transport | Link, link: Link | None) -> None:
        while arrival := inbox.probe(Kind.CONTROL):
            num_bytes = arrival.num_bytes
            if num_bytes > MAX_CONTROL_BYTES:
                self._reject(f"a control message of {num_bytes} bytes")
                num_bytes = 0  # taken into no buffer, it ends at once
            buffer = np.zeros(num_bytes, np.uint8)
            operation = arrival.receive(buffer)
            self._receiving.add(Flight(operation, buffer, num_bytes, link, time.monotonic()))

    def _decode(self, flight: Flight) -> list[Message]:
        try:
            return [messages.decode(self._seal.open(flight.buffer.tobytes()))]
        except MalformedMessage as error:
            self._reject(str(error))
            return []

    def _reject(self, reason: str) -> None:
        self.num_rejected += 1
        self._complaints.add(reason)
