"""Whether workers may serve one fleet, and which of them may be paired."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from proto.layout import KvLayout, obstacle
from proto.worker_pb2 import ROLE_DECODE, ROLE_PREFILL, Description

# Its decode side pulls, and must know where: prefill comes first.
NIXL = "nixl"


def version_mismatch(theirs: Description, gateway_version: str) -> str | None:
    """Why this gateway cannot speak with the worker; None if it can."""
    if theirs.vllm_version == gateway_version:
        return None
    return (
        f"{theirs.worker_id} runs vLLM {theirs.vllm_version}, "
        f"but the gateway runs vLLM {gateway_version}"
    )


def mismatch(ours: Description, theirs: Description) -> str | None:
    """Why the two do not serve the same, naming both sides and both values; None if they do."""
    values = (
        ("vLLM", ours.vllm_version, theirs.vllm_version),
        ("the model", model_of(ours), model_of(theirs)),
    )
    for what, our_value, their_value in values:
        if our_value != their_value:
            return (
                f"{theirs.worker_id} has {what} {their_value}, "
                f"but {ours.worker_id} has {what} {our_value}"
            )
    return None


def layout_misfit(worker: Description, others: Iterable[Description]) -> str | None:
    """Why KV cannot pass between the worker and any of its counterparts, naming both layouts.

    None if it can with one of them, or if there are none yet.
    """
    try:
        KvLayout.from_proto(worker.kv_layout)
    except ValueError as error:
        return f"{worker.worker_id} has a KV layout that cannot be read: {error}"
    problems = [
        obstacle_between(source, target)
        for other in (worker, *others)
        for source, target in pairs_of(worker, other)
    ]
    return problems[0] if problems and all(problems) else None


def obstacle_between(source: Description, target: Description) -> str | None:
    """Why KV of the first cannot be used by the second, naming both; None if it can."""
    theirs, ours = (KvLayout.from_proto(each.kv_layout) for each in (source, target))
    problem = kv_obstacle((source.kv_connector, theirs), (target.kv_connector, ours))
    return problem and f"{source.worker_id} and {target.worker_id} do not fit: {problem}"


def kv_obstacle(source: tuple[str, KvLayout], target: tuple[str, KvLayout]) -> str | None:
    """Why KV cannot pass between two ways of moving it and of laying it out; None if it can."""
    (their_connector, theirs), (our_connector, ours) = source, target
    if their_connector != our_connector:
        return f"one moves KV by {their_connector}, the other by {our_connector}"
    if their_connector == NIXL and theirs.fingerprint != ours.fingerprint:
        return f"with NIXL both have the same KV layout, not {theirs.summary} and {ours.summary}"
    return obstacle(theirs, ours)


def pairs_of(one: Description, other: Description) -> Iterator[tuple[Description, Description]]:
    """Who could prefill for whom."""
    if ROLE_PREFILL in one.roles and ROLE_DECODE in other.roles:
        yield one, other
    if ROLE_DECODE in one.roles and ROLE_PREFILL in other.roles:
        yield other, one


def model_of(description: Description) -> str:
    # The fingerprint alone decides: the same folder may be mounted elsewhere.
    return f"with fingerprint {description.model_fingerprint[:16]}"
