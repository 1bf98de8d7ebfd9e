"""Stands in for a worker: joins the fleet and leaves it, and computes nothing."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time

from fleet.member import Member, Role, new_incarnation
from fleet.redis_membership import RedisMembership
from fleet.registration import Registration
from standin.behaviour import behave

LEASE_SECONDS = 1.0


def main(role: str) -> None:
    parser = argparse.ArgumentParser()
    for flag in ("model", "worker-id", "redis", "fleet", "host", "port", "dtype", "kv-cache-gib"):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--max-model-len")
    parser.add_argument("--engine-args")
    given = parser.parse_args()
    behave(given.worker_id)
    asyncio.run(serve(given, Role(role)))


async def serve(given: argparse.Namespace, role: Role) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    member = Member(
        worker_id=given.worker_id,
        incarnation=new_incarnation(),
        address="127.0.0.1:9",
        roles=(role,),
        model=given.model,
        vllm_version="0",
        pid=os.getpid(),
        started_at=time.time(),
    )
    async with (
        RedisMembership.connect(given.redis, given.fleet) as membership,
        Registration(membership, member, LEASE_SECONDS),
    ):
        await stop.wait()
