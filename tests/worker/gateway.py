"""A gateway's end of a session, over a real channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import grpc.aio

from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.greeting import Greeting
from proto.worker_pb2_grpc import WorkerStub
from tests.proto.builders import KEY
from tests.worker.builders import IDENTITY, make_hub
from tests.worker.scripted_engine import ScriptedEngine
from worker.description import describe
from worker.hub import Hub
from worker.ledger import Ledger
from worker.leg import Role
from worker.model_folder import ModelFolder
from worker.server import open_server
from worker.servicer import Servicer
from worker.session import SessionLimits

PATIENCE_SECONDS = 20.0


class Gateway:
    """Sends and reads one message at a time. `end`: the status the stream ended with."""

    def __init__(self, address: str, gateway_id: str = "gateway-0") -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self.stub = WorkerStub(self._channel)
        self._call = self.stub.Session()
        self._gateway_id = gateway_id

    async def greet(
        self, vllm_version: str = "0.32.0", key: FleetKey = KEY, age_seconds: float = 0.0
    ) -> worker_pb2.FromWorker:
        said_at = time.time() - age_seconds
        greeting = Greeting(self._gateway_id, vllm_version, key, lambda: said_at)
        worker = await self.stub.Describe(worker_pb2.DescribeRequest())
        await self.send(hello=greeting.to(f"{worker.worker_id}/{worker.incarnation}"))
        return await self.read()

    async def send(self, **message: object) -> None:
        await self._call.write(worker_pb2.ToWorker(**message))  # type: ignore[arg-type]

    async def submit(self, submit: worker_pb2.Submit) -> None:
        await self.send(submit=submit)

    async def read(self) -> worker_pb2.FromWorker:
        async with asyncio.timeout(PATIENCE_SECONDS):
            message = await self._call.read()
        assert isinstance(message, worker_pb2.FromWorker), "the stream has ended"
        return message

    async def read_next(self, kind: str) -> worker_pb2.FromWorker:
        """Skips what is of another kind."""
        while True:
            message = await self.read()
            if message.WhichOneof("message") == kind:
                return message

    async def end(self) -> tuple[grpc.StatusCode, str]:
        """Reads what is left."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            with suppress(grpc.RpcError):
                while await self._call.read() is not grpc.aio.EOF:
                    pass
            return await self._call.code(), await self._call.details() or ""

    async def hang_up(self) -> None:
        await self._call.done_writing()

    def vanish(self) -> None:
        self._call.cancel()

    async def close(self) -> None:
        await self._channel.close()


class Served:
    """A worker's gRPC side over a scripted engine."""

    def __init__(self, engine: ScriptedEngine, hub: Hub, ledger: Ledger, address: str) -> None:
        self.engine = engine
        self.hub = hub
        self.ledger = ledger
        self.address = address

    @asynccontextmanager
    async def gateway(self, gateway_id: str = "gateway-0") -> AsyncIterator[Gateway]:
        """In session."""
        gateway = Gateway(self.address, gateway_id)
        try:
            await gateway.greet()
            yield gateway
        finally:
            await gateway.close()


@asynccontextmanager
async def serve(limits: SessionLimits | None = None) -> AsyncIterator[Served]:
    engine = ScriptedEngine()
    hub, ledger = make_hub(engine)
    model = ModelFolder(Path("models/tiny"), b"{}", (("model.safetensors", 8),))
    description = describe(IDENTITY, tuple(Role), model, engine.facts)
    async with open_server(Servicer(description, hub, KEY, limits), "127.0.0.1", 0) as port:
        running = asyncio.ensure_future(hub.run())
        try:
            yield Served(engine, hub, ledger, f"127.0.0.1:{port}")
            hub.check_integrity()
        finally:
            running.cancel()
            await asyncio.wait([running])
