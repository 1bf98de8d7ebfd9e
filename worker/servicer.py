"""The worker's gRPC service."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from types import MappingProxyType
from typing import cast

import grpc
import grpc.aio

from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.worker_pb2_grpc import WorkerServicer
from worker.errors import EngineGone, GatewayRefused, GatewayTooSlow, ProtocolBroken, SessionError
from worker.hub import Hub
from worker.session import Call, Session, SessionLimits, Welcomer

STATUS: Mapping[type[SessionError], grpc.StatusCode] = MappingProxyType(
    {
        GatewayRefused: grpc.StatusCode.FAILED_PRECONDITION,
        GatewayTooSlow: grpc.StatusCode.RESOURCE_EXHAUSTED,
        ProtocolBroken: grpc.StatusCode.INVALID_ARGUMENT,
        EngineGone: grpc.StatusCode.UNAVAILABLE,
    }
)

logger = logging.getLogger(__name__)


class Servicer(WorkerServicer):
    """Describes the worker, and runs one Session per stream."""

    def __init__(
        self,
        description: worker_pb2.Description,
        hub: Hub,
        key: FleetKey,
        limits: SessionLimits | None = None,
    ) -> None:
        self._description = description
        self._hub = hub
        self._limits = limits
        us = f"{description.worker_id}/{description.incarnation}"
        self._welcomer = Welcomer(description.vllm_version, us, key)

    async def Describe(
        self,
        request: worker_pb2.DescribeRequest,
        context: grpc.aio.ServicerContext[worker_pb2.DescribeRequest, worker_pb2.Description],
    ) -> worker_pb2.Description:
        return self._description

    async def Session(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[worker_pb2.ToWorker],
        context: grpc.aio.ServicerContext[worker_pb2.ToWorker, worker_pb2.FromWorker],
    ) -> None:
        session = Session(cast("Call", context), self._hub, self._welcomer, self._limits)
        try:
            await session.run()
        except SessionError as error:
            logger.warning("session with %s ended: %s", context.peer(), error)
            await context.abort(STATUS[type(error)], str(error))
        except Exception as error:
            # gRPC would send the text of the error, and that might hold a prompt's.
            logger.exception("a defect ended the session with %s", context.peer())
            reason = f"a defect of the worker ({type(error).__name__})"
            await context.abort(grpc.StatusCode.INTERNAL, reason)
