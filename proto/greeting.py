"""The first message of a session, by which a worker knows a gateway of its own fleet."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from proto import worker_pb2
from proto.canonical import encode
from proto.fleet_key import FleetKey

PURPOSE = "session"


@dataclass(frozen=True, slots=True)
class Greeting:
    """How one gateway greets. `clock` is in Unix seconds."""

    gateway_id: str
    vllm_version: str
    key: FleetKey
    clock: Callable[[], float] = time.time

    def to(self, worker: str) -> worker_pb2.Hello:
        """For "worker_id/incarnation" alone, now."""
        hello = worker_pb2.Hello(
            gateway_id=self.gateway_id, vllm_version=self.vllm_version, said_at=self.clock()
        )
        hello.mac = self.key.sign(PURPOSE, signed_part(hello, worker))
        return hello


def is_signed_by(key: FleetKey, hello: worker_pb2.Hello, worker: str) -> bool:
    """Whether somebody with the fleet's key has said it to this worker."""
    return key.is_valid(PURPOSE, signed_part(hello, worker), hello.mac)


def signed_part(hello: worker_pb2.Hello, worker: str) -> bytes:
    return encode([worker, hello.gateway_id, hello.vllm_version, hello.said_at])
