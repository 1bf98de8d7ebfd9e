"""Who can take work: the fleet's members, connected, described and compatible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import NoReturn, Protocol

from fleet.member import Member
from fleet.presence import Change
from gateway.compatibility import layout_misfit, mismatch, version_mismatch
from gateway.errors import StartError, WorkerIncompatible
from gateway.introductions import Introductions, Party
from gateway.routing.fleet_table import FleetTable
from gateway.session import WorkerSession
from gateway.worker_link import Check, LinkState, WorkerLink
from proto import worker_pb2

logger = logging.getLogger(__name__)

MakeLink = Callable[[Member, Check, Callable[[], None]], WorkerLink]


class Follower(Protocol):
    """Follows what the workers in the fleet tell, by "worker_id/incarnation"."""

    def meet(self, worker: str) -> None: ...

    def part(self, worker: str) -> None: ...


class Roster:
    """One link per member, each in its own task, while `run` runs.

    Who describes itself must serve the same as those that are there, and find one whose KV it
    can use or that can use its own, unless there is nobody to be paired with yet.
    """

    def __init__(
        self,
        changes: AsyncIterator[Change],
        make_link: MakeLink,
        vllm_version: str,
        table: FleetTable | None = None,
        followers: Sequence[Follower] = (),
    ) -> None:
        """`table` has who is usable, `followers` are told who is in the fleet."""
        self.links: dict[str, WorkerLink] = {}
        self.table = table or FleetTable()
        self._followers = followers
        self._changes = changes
        self._make_link = make_link
        self._vllm_version = vllm_version
        self._fitting: dict[str, worker_pb2.Description] = {}
        self._introductions = Introductions()
        self._changed = asyncio.Event()

    async def run(self) -> NoReturn:
        """Endless. What is connected is disconnected when it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            async for change in self._changes:
                for member in change.left:
                    self._part(member)
                for member in change.joined:
                    self._meet(member, tasks)
        raise AssertionError("the watch over the fleet does not end")

    def num_usable(self, role: worker_pb2.Role) -> int:
        return sum(link.is_usable and link.serves(role) for link in self.links.values())

    def is_any_usable(self, role: worker_pb2.Role) -> bool:
        return any(link.is_usable and link.serves(role) for link in self.links.values())

    @property
    def max_model_len(self) -> int:
        """In tokens: what every usable worker can take."""
        described = (x.description for x in self.links.values() if x.is_usable and x.description)
        return min(description.capacity.max_model_len for description in described)

    def session(self, worker: str) -> WorkerSession | None:
        """The open session with "worker_id/incarnation", if there is one."""
        link = self.links.get(worker)
        return link.session if link else None

    def sessions(self) -> list[WorkerSession]:
        """Those that are open."""
        return [link.session for link in self.links.values() if link.session]

    async def wait_for(self, num_prefill: int, num_decode: int, timeout_seconds: float) -> None:
        """Until that many of each are usable.

        Raises StartError if they are not in time, or if one does not fit.
        """
        try:
            async with asyncio.timeout(timeout_seconds):
                while not self._has(num_prefill, num_decode):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise StartError(self._missing(num_prefill, num_decode, timeout_seconds)) from None

    def _has(self, num_prefill: int, num_decode: int) -> bool:
        for link in self.links.values():
            if link.state is LinkState.REFUSED:
                raise StartError(link.reason)
        return (
            self.num_usable(worker_pb2.ROLE_PREFILL) >= num_prefill
            and self.num_usable(worker_pb2.ROLE_DECODE) >= num_decode
        )

    def _missing(self, num_prefill: int, num_decode: int, timeout_seconds: float) -> str:
        prefill = self.num_usable(worker_pb2.ROLE_PREFILL)
        decode = self.num_usable(worker_pb2.ROLE_DECODE)
        waiting = [f"{x.key}: {x.reason or x.state}" for x in self.links.values() if x.reason]
        return (
            f"after {timeout_seconds:g} s, {prefill} of {num_prefill} prefill and "
            f"{decode} of {num_decode} decode workers are ready"
            + (f" ({'; '.join(waiting)})" if waiting else "")
        )

    def _meet(self, member: Member, tasks: asyncio.TaskGroup) -> None:
        key = f"{member.worker_id}/{member.incarnation}"
        if link := self.links.get(key):
            self._welcome_back(link)
            return
        on_change = partial(self._link_changed, key)
        link = self.links[key] = self._make_link(member, self._check, on_change)
        for follower in self._followers:
            follower.meet(key)
        tasks.create_task(self._keep(link), name=f"link to {key}")

    def _welcome_back(self, link: WorkerLink) -> None:
        try:
            if link.description is not None:
                self._check(link.description)
            link.come_back()
        except WorkerIncompatible as error:
            link.refuse(error.reason)

    async def _keep(self, link: WorkerLink) -> None:
        await link.run()
        if link.has_left:
            self._forget(link)

    def _part(self, member: Member) -> None:
        if not (link := self.links.get(f"{member.worker_id}/{member.incarnation}")):
            return
        self._fitting.pop(link.key, None)
        link.leave()
        if link.state is LinkState.REFUSED:
            self._forget(link)

    def _forget(self, link: WorkerLink) -> None:
        self.links.pop(link.key, None)
        self._link_changed(link.key)
        for follower in self._followers:
            follower.part(link.key)

    def _link_changed(self, key: str) -> None:
        self._changed.set()
        self._note_in_table(key)
        parties = [
            Party(link.key, link.session, link.description, link.layout)
            for link in self.links.values()
            if link.session is not None and link.description and link.layout
        ]
        for session, message in self._introductions.update(parties):
            session.send(message)

    def _note_in_table(self, key: str) -> None:
        link = self.links.get(key)
        if link is None:
            self.table.remove(key)
        elif facts := link.facts:
            self.table.put(facts, is_usable=link.is_usable)

    def _check(self, description: worker_pb2.Description) -> None:
        """Raises WorkerIncompatible."""
        key = f"{description.worker_id}/{description.incarnation}"
        others = [each for other, each in self._fitting.items() if other != key]
        reason = (
            version_mismatch(description, self._vllm_version)
            or next((found for each in others if (found := mismatch(each, description))), None)
            or layout_misfit(description, others)
        )
        if reason:
            raise WorkerIncompatible(description.worker_id, reason)
        self._fitting[key] = description

    def __repr__(self) -> str:
        states = ", ".join(f"{link.key} {link.state}" for link in self.links.values())
        return f"<Roster {states or 'nobody'}>"
