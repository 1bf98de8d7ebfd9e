"""The links of one transport: made at an introduction or when first needed."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator

from kvtransfer.errors import TransportUnavailable
from kvtransfer.transport import Link, Transport

logger = logging.getLogger("vllm.baton.links")

MAX_LEFT = 1024


class Links:
    """One link per remote address; with more than the transport bears, the longest unused is
    closed and its address put among the evicted.

    Inside a host nobody tells a peer that our end of a link is closed, and it would keep its
    own end for as long as we live. So it is to be told by the next link to it.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._links: OrderedDict[bytes, Link] = OrderedDict()
        self._addresses: dict[Link, bytes] = {}
        self._evicted: list[bytes] = []
        self._left: OrderedDict[bytes, bytes] = OrderedDict()  # by link address: where it led
        self._has_new = False

    def get(self, address: bytes) -> Link | None:
        """None if there is no way to `address`; the reason is logged."""
        if address not in self._links:
            try:
                link = self._links[address] = self._transport.connect(address)
            except TransportUnavailable as error:
                logger.warning("%s", error)
                return None
            self._addresses[link] = address
            self._has_new = True
            self._make_room()
        self._links.move_to_end(address)
        return self._links.get(address)

    def find(self, address: bytes) -> Link | None:
        """The link to `address`, if there is one."""
        return self._links.get(address)

    def address_of(self, link: Link) -> bytes | None:
        """Where an open link leads."""
        return self._addresses.get(link)

    def drop(self, address: bytes) -> None:
        """Closes the link to `address`, if there is one."""
        if link := self._links.pop(address, None):
            del self._addresses[link]
            self._left[link.address] = address
            while len(self._left) > MAX_LEFT:
                self._left.popitem(last=False)
            link.close()

    def broken(self) -> list[bytes]:
        """The addresses whose peers are known to be gone."""
        return [address for address, link in self._links.items() if link.is_broken]

    def take_evicted(self) -> list[bytes]:
        evicted, self._evicted = self._evicted, []
        return evicted

    def take_left(self) -> list[tuple[Link, bytes]]:
        """Addresses of closed links, each with a new one that leads to the same place."""
        if not self._has_new:
            return []
        self._has_new = False
        found = [(self.find(where), left) for left, where in self._left.items()]
        told = [(link, left) for link, left in found if link is not None]
        for _, left in told:
            del self._left[left]
        return told

    def close(self) -> None:
        for address in list(self._links):
            self.drop(address)

    def _make_room(self) -> None:
        while len(self._links) > self._transport.max_links:
            address = next(iter(self._links))
            self.drop(address)
            self._evicted.append(address)

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def __len__(self) -> int:
        return len(self._links)
