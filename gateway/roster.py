"""Who can take work: the fleet's members, connected, described and compatible."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

from fleet.member import Member
from fleet.presence import Change
from gateway.compatibility import mismatch, version_mismatch
from gateway.errors import StartError, WorkerIncompatible
from gateway.placement import FleetView
from gateway.session import WorkerSession
from gateway.worker_ledger import WorkerLedger
from gateway.worker_link import Check, LinkState, WorkerLink
from proto import worker_pb2

logger = logging.getLogger(__name__)

MakeLink = Callable[[Member, Check, Callable[[], None]], WorkerLink]


class Roster:
    """One link per member, each in its own task, while `run` runs.

    The first worker that describes itself sets the standard that all others must meet.
    """

    def __init__(
        self, changes: AsyncIterator[Change], make_link: MakeLink, vllm_version: str
    ) -> None:
        self.links: dict[str, WorkerLink] = {}
        self._changes = changes
        self._make_link = make_link
        self._vllm_version = vllm_version
        self._standard: worker_pb2.Description | None = None
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

    def view(self, ledger: WorkerLedger) -> FleetView:
        """Who can take a leg now."""
        usable = [link for link in self.links.values() if link.is_usable]
        decode, prefill = worker_pb2.ROLE_DECODE, worker_pb2.ROLE_PREFILL
        return FleetView(
            tuple(link.view(ledger) for link in usable if link.serves(decode)),
            tuple(link.view(ledger) for link in usable if link.serves(prefill)),
        )

    def num_usable(self, role: worker_pb2.Role) -> int:
        return sum(link.is_usable and link.serves(role) for link in self.links.values())

    @property
    def max_model_len(self) -> int:
        """In tokens: what every usable worker can take."""
        described = (x.description for x in self.links.values() if x.is_usable and x.description)
        return min(description.capacity.max_model_len for description in described)

    def session(self, worker: str) -> WorkerSession | None:
        """The open session with "worker_id/incarnation", if there is one."""
        link = self.links.get(worker)
        return link.session if link else None

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
            link.come_back()
            return
        link = self.links[key] = self._make_link(member, self._check, self._changed.set)
        tasks.create_task(self._keep(link), name=f"link to {key}")

    async def _keep(self, link: WorkerLink) -> None:
        await link.run()
        if link.has_left:
            self._forget(link)

    def _part(self, member: Member) -> None:
        if not (link := self.links.get(f"{member.worker_id}/{member.incarnation}")):
            return
        link.leave()
        if link.state is LinkState.REFUSED:
            self._forget(link)

    def _forget(self, link: WorkerLink) -> None:
        self.links.pop(link.key, None)
        self._changed.set()

    def _check(self, description: worker_pb2.Description) -> None:
        reason = version_mismatch(description, self._vllm_version)
        if not reason and self._standard:
            reason = mismatch(self._standard, description)
        if reason:
            raise WorkerIncompatible(description.worker_id, reason)
        self._standard = self._standard or description

    def __repr__(self) -> str:
        states = ", ".join(f"{link.key} {link.state}" for link in self.links.values())
        return f"<Roster {states or 'nobody'}>"
