"""The links of one transport: made when first needed, closed when silent or long unused."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator

from kvtransfer.errors import TransportUnavailable
from kvtransfer.transport import Link, Transport

logger = logging.getLogger("vllm.baton.links")

MAX_LINKS = 256


class Links:
    """One link per remote address; with more than MAX_LINKS the longest unused is closed."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._links: OrderedDict[bytes, Link] = OrderedDict()

    def get(self, address: bytes) -> Link | None:
        """None if there is no way to `address`; the reason is logged."""
        if address not in self._links:
            try:
                self._links[address] = self._transport.connect(address)
            except TransportUnavailable as error:
                logger.warning("%s", error)
                return None
            if len(self._links) > MAX_LINKS:
                self._links.popitem(last=False)[1].close()
        self._links.move_to_end(address)
        return self._links[address]

    def drop(self, link: Link) -> bytes | None:
        """Closes `link`. Returns the remote address it led to, if it was still in use."""
        for address, each in self._links.items():
            if each is link:
                logger.warning(
                    "a peer has gone, or neither takes nor gives its messages; closing the link"
                )
                del self._links[address]
                link.close()
                return address
        return None

    def close(self) -> None:
        while self._links:
            self._links.popitem()[1].close()

    def __iter__(self) -> Iterator[Link]:
        return iter(list(self._links.values()))

    def __len__(self) -> int:
        return len(self._links)
