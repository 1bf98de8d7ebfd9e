"""This gateway's hold on one incarnation of a worker, from its first sight to its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from fleet.backoff import Backoff
from fleet.member import Member
from gateway.errors import SessionLost, WorkerError, WorkerIncompatible
from gateway.routing.facts import WorkerFacts
from gateway.session import SessionEvents, SessionLimits, WorkerSession
from gateway.worker_connection import describe, open_channel, open_session
from proto import worker_pb2
from proto.greeting import Greeting
from proto.layout import KvLayout

logger = logging.getLogger(__name__)


class LinkState(StrEnum):
    CONNECTING = "connecting"
    READY = "ready"
    LOST = "lost"  # tries to connect again
    REFUSED = "refused"  # does not fit into this fleet
    LEAVING = "leaving"  # has left the fleet; gets nothing new


class LinkEvents(SessionEvents, Protocol):
    """What a link brings, beside its session's messages."""

    def worker_lost(self, worker: str) -> None:
        """The session ended: all that was open on it is gone."""


Check = Callable[[worker_pb2.Description], None]


class WorkerLink:
    """Keeps a session open while `run` runs; connects again, with growing pauses."""

    def __init__(
        self,
        member: Member,
        greeting: Greeting,
        check: Check,
        on_change: Callable[[], None],
        events: LinkEvents,
        connect_seconds: float,
        limits: SessionLimits,
        backoff: Backoff | None = None,
    ) -> None:
        """`check` raises WorkerIncompatible for a worker that does not fit.

        `on_change` is told when state, reason or session are others.
        """
        self.member = member
        self.key = f"{member.worker_id}/{member.incarnation}"
        self.state = LinkState.CONNECTING
        self.reason = ""
        self.description: worker_pb2.Description | None = None
        self.layout: KvLayout | None = None
        self.session: WorkerSession | None = None
        self.has_left = False
        self._greeting = greeting
        self._check = check
        self._on_change = on_change
        self._events = events
        self._connect_seconds = connect_seconds
        self._limits = limits
        self._backoff = backoff or Backoff(first_seconds=0.1, last_seconds=5.0)

    @property
    def is_usable(self) -> bool:
        return self.state is LinkState.READY

    def serves(self, role: worker_pb2.Role) -> bool:
        return self.description is not None and role in self.description.roles

    @property
    def facts(self) -> WorkerFacts | None:
        """None until it has described itself."""
        if self.description is None or self.layout is None:
            return None
        return WorkerFacts.of(self.description, self.layout)

    def leave(self) -> None:
        """The worker has left the fleet: what is open goes on, nothing is added."""
        self.has_left = True
        if self.state is not LinkState.REFUSED:
            self._become(LinkState.LEAVING)

    def come_back(self) -> None:
        """The same incarnation is listed again."""
        self.has_left = False
        if self.state is LinkState.LEAVING:
            self._become(LinkState.READY if self.session else LinkState.LOST)

    def refuse(self, reason: str) -> None:
        """It fits no more."""
        self._become(LinkState.REFUSED, reason)

    async def run(self) -> None:
        """Returns when the worker is refused, or lost after it has left."""
        while not self.has_left:
            try:
                await self._connect()
            except WorkerIncompatible as error:
                logger.warning("refused: %s", error.reason)
                self._become(LinkState.REFUSED, error.reason)
                return
            except WorkerError as error:
                self._note_loss(error)
            except Exception as error:
                # A fault in one link must not end the others.
                logger.exception("the link to %s failed", self.key)
                self._note_loss(SessionLost(self.key, type(error).__name__))
            if not self.has_left:
                await asyncio.sleep(self._backoff.next())

    async def _connect(self) -> None:
        seconds = self._connect_seconds
        async with open_channel(self.member.address) as stub:
            self.description = await describe(stub, self.key, seconds)
            self._check(self.description)
            self.layout = KvLayout.from_proto(self.description.kv_layout)
            async with open_session(
                stub, self.key, self._greeting.to(self.key), self._events, self._limits, seconds
            ) as session:
                await self._serve(session)

    async def _serve(self, session: WorkerSession) -> None:
        self.session = session
        self._backoff.reset()
        self._become(LinkState.LEAVING if self.has_left else LinkState.READY)
        try:
            await session.run()
        finally:
            self.session = None
            self._become(LinkState.LEAVING if self.has_left else LinkState.LOST)
            self._events.worker_lost(self.key)

    def _note_loss(self, error: WorkerError) -> None:
        if not self._backoff.failures and not self.has_left:
            logger.warning("%s; trying again", error)
        self._become(LinkState.LEAVING if self.has_left else LinkState.LOST, error.reason)

    def _become(self, state: LinkState, reason: str = "") -> None:
        self.state, self.reason = state, reason
        self._on_change()

    def __repr__(self) -> str:
        return f"<WorkerLink {self.key} {self.state}{': ' if self.reason else ''}{self.reason}>"
