"""A decode worker with a canned engine, in the fleet of a gateway under measurement.

python -m tests.system.canned_worker REDIS_URL
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator

import grpc.aio
import vllm
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.serial_utils import MsgpackDecoder

from fleet.member import Member, Role, new_incarnation
from fleet.redis_membership import RedisMembership
from proto import worker_pb2
from proto.layout import KvLayout
from proto.worker_pb2_grpc import WorkerServicer, add_WorkerServicer_to_server
from tests.system.canned import CannedEngine
from tests.system.prompts import BLOCK_SIZE, MAX_MODEL_LEN

LAYOUT = KvLayout(
    block_size=BLOCK_SIZE, num_heads=1, content_size=2, key_size=1, dtype="uint8", stage_layers=(1,)
)
LEASE_SECONDS = 600.0
NAME = "decode-0"


class CannedWorker(WorkerServicer):
    """Serves one gateway."""

    def __init__(self) -> None:
        self.incarnation = new_incarnation()
        self._engine = CannedEngine()
        self._decoder = MsgpackDecoder(EngineCoreRequest)

    async def Describe(
        self, request: worker_pb2.DescribeRequest, context: object
    ) -> worker_pb2.Description:
        return worker_pb2.Description(
            worker_id=NAME,
            incarnation=self.incarnation,
            roles=[worker_pb2.ROLE_DECODE],
            vllm_version=vllm.__version__,
            kv_layout=LAYOUT.to_proto(),
            capacity=worker_pb2.Capacity(max_model_len=MAX_MODEL_LEN, num_kv_blocks=1),
            transfer_addresses=[b"nowhere"],
        )

    async def Session(
        self, request_iterator: AsyncIterator[worker_pb2.ToWorker], context: object
    ) -> AsyncIterator[worker_pb2.FromWorker]:
        outbox: asyncio.Queue[worker_pb2.FromWorker] = asyncio.Queue(1024)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read(request_iterator, outbox))
            tasks.create_task(self._step(outbox))
            while True:
                yield await outbox.get()

    async def _read(
        self,
        messages: AsyncIterator[worker_pb2.ToWorker],
        outbox: asyncio.Queue[worker_pb2.FromWorker],
    ) -> None:
        async for message in messages:
            match message.WhichOneof("message"):
                case "hello":
                    welcome = worker_pb2.Welcome(incarnation=self.incarnation)
                    await outbox.put(worker_pb2.FromWorker(welcome=welcome))
                case "ping":
                    pong = worker_pb2.Pong(nonce=message.ping.nonce)
                    await outbox.put(worker_pb2.FromWorker(pong=pong))
                case "submit":
                    frames = [bytearray(frame) for frame in message.submit.request]
                    self._engine.add(self._decoder.decode(frames))
                case "abort":
                    for request_id in message.abort.request_ids:
                        self._engine.remove(request_id)

    async def _step(self, outbox: asyncio.Queue[worker_pb2.FromWorker]) -> None:
        while True:
            step = worker_pb2.StepBatch(outputs=await self._engine.next_step())
            await outbox.put(worker_pb2.FromWorker(step=step))


async def main() -> None:
    worker, server = CannedWorker(), grpc.aio.server()
    add_WorkerServicer_to_server(worker, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address, version = f"127.0.0.1:{port}", vllm.__version__
    async with RedisMembership.connect(sys.argv[1], "baton") as membership:
        us = (NAME, worker.incarnation, address, (Role.DECODE,), "canned", version)
        await membership.join(Member(*us, os.getpid(), time.time()), LEASE_SECONDS)
        await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
