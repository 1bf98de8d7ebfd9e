"""What a worker says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

from fleet.member import Member
from proto import worker_pb2
from worker.identity import Identity
from worker.interface import EngineFacts
from worker.leg import Role, to_proto_role
from worker.model_folder import ModelFolder

DISTRIBUTION = "baton-serve"


def baton_version() -> str:
    """Empty where Baton runs from its source folder without being installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""


def describe(
    identity: Identity, roles: Iterable[Role], model: ModelFolder, facts: EngineFacts
) -> worker_pb2.Description:
    return worker_pb2.Description(
        worker_id=identity.worker_id,
        incarnation=identity.incarnation,
        roles=[to_proto_role(role) for role in roles],
        model=str(model.path),
        model_fingerprint=identity.model_fingerprint,
        vllm_version=facts.vllm_version,
        baton_version=baton_version(),
        kv_layout=facts.kv_layout,
        capacity=facts.capacity,
        transfer_addresses=facts.transfer_addresses,
        kv_connector=facts.kv_connector,
    )


def member(
    description: worker_pb2.Description, roles: Iterable[Role], address: str, pid: int, now: float
) -> Member:
    """The same worker in the fleet. `now` is in seconds since the epoch."""
    return Member(
        worker_id=description.worker_id,
        incarnation=description.incarnation,
        address=address,
        roles=tuple(roles),
        model=description.model,
        vllm_version=description.vllm_version,
        pid=pid,
        started_at=now,
    )
