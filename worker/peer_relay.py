"""Tells the engine of peers that come and go."""

from __future__ import annotations

import asyncio
import logging
from typing import NoReturn

from proto import worker_pb2
from proto.layout import KvLayout
from worker.interface import Engine
from worker.peers import Peer, PeerBook

logger = logging.getLogger(__name__)


class PeerRelay:
    """Books what gateways say at once; the engine learns of it while `run` runs."""

    def __init__(self, engine: Engine, book: PeerBook) -> None:
        self._engine = engine
        self._book = book
        self._layout = KvLayout.from_proto(engine.facts.kv_layout)
        self._told: set[Peer] = set()
        self._changed = asyncio.Event()

    def introduce(self, session: int, message: worker_pb2.Introduce) -> None:
        """Raises ProtocolBroken."""
        self._book.introduce(session, Peer.introduced(message, self._layout))
        self._changed.set()

    def part(self, session: int, message: worker_pb2.Part) -> None:
        self._book.part(session, f"{message.worker_id}/{message.incarnation}")
        self._changed.set()

    def close_session(self, session: int) -> None:
        self._book.close_session(session)
        self._changed.set()

    async def run(self) -> NoReturn:
        """Ends by EngineLost, or by cancellation."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            for peer in self._told - self._book.peers:
                logger.info("%s is lost", peer.key)
                self._told.remove(peer)
                await self._engine.part(peer.addresses)
            for peer in self._book.peers - self._told:
                logger.info("%s is a peer", peer.key)
                self._told.add(peer)
                await self._engine.introduce(peer.addresses)

    def check_integrity(self) -> None:
        """Raises AssertionError."""
        self._book.check_integrity()
