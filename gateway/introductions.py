"""Who was told of whom."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gateway.compatibility import kv_obstacle
from gateway.session import WorkerSession
from proto import worker_pb2
from proto.layout import KvLayout
from proto.worker_pb2 import ROLE_DECODE, ROLE_PREFILL, Description


@dataclass(frozen=True, slots=True)
class Party:
    """A worker with an open session. `key` is "worker_id/incarnation"."""

    key: str
    session: WorkerSession
    description: Description
    layout: KvLayout

    @property
    def is_source(self) -> bool:
        return ROLE_PREFILL in self.description.roles

    @property
    def is_target(self) -> bool:
        return ROLE_DECODE in self.description.roles


@dataclass(slots=True)
class Introductions:
    """Decode workers are told of the prefill workers whose tickets they will see: connections
    are made before a request needs one, and are given up when their other end is lost.

    Pure and synchronous.
    """

    _told: dict[WorkerSession, dict[str, Party]] = field(default_factory=dict)

    def update(self, parties: Iterable[Party]) -> list[tuple[WorkerSession, worker_pb2.ToWorker]]:
        """What is to be sent, now that these have a session and no others."""
        parties = tuple(parties)
        sources = {party.key: party for party in parties if party.is_source}
        targets = [party for party in parties if party.is_target]
        self._told = {party.session: self._told.get(party.session, {}) for party in targets}
        return [
            (party.session, message)
            for party in targets
            for message in self._messages(party, sources)
        ]

    def _messages(self, party: Party, sources: dict[str, Party]) -> list[worker_pb2.ToWorker]:
        told = self._told[party.session]
        lost = [told.pop(key) for key in told.keys() - sources.keys()]
        found = {
            key: source
            for key, source in sources.items()
            if key not in told and can_meet(source, party)
        }
        told.update(found)
        return [
            *(part_with(each.description) for each in lost),
            *(introduce(each.description) for each in found.values()),
        ]


def can_meet(source: Party, target: Party) -> bool:
    """Whether they may be paired."""
    ends = ((each.description.kv_connector, each.layout) for each in (source, target))
    return source.key != target.key and kv_obstacle(*ends) is None


def introduce(worker: Description) -> worker_pb2.ToWorker:
    return worker_pb2.ToWorker(
        introduce=worker_pb2.Introduce(
            worker_id=worker.worker_id,
            incarnation=worker.incarnation,
            transfer_addresses=worker.transfer_addresses,
            kv_layout=worker.kv_layout,
        )
    )


def part_with(worker: Description) -> worker_pb2.ToWorker:
    return worker_pb2.ToWorker(
        part=worker_pb2.Part(
            worker_id=worker.worker_id,
            incarnation=worker.incarnation,
            transfer_addresses=worker.transfer_addresses,
        )
    )
