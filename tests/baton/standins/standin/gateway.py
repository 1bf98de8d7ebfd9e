"""Stands in for the gateway: answers /health and /fleet/workers, and no client."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal

from fleet.redis_membership import RedisMembership
from standin.behaviour import behave


def main() -> None:
    parser = argparse.ArgumentParser()
    for flag in ("model", "served-model-name", "redis", "fleet", "host", "port", "dtype"):
        parser.add_argument(f"--{flag}", required=True)
    parser.add_argument("--expect-prefill", type=int, required=True)
    parser.add_argument("--expect-decode", type=int, required=True)
    parser.add_argument("--max-model-len")
    parser.add_argument("--engine-args")
    given = parser.parse_args()
    behave("gateway")
    asyncio.run(serve(given))


async def serve(given: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with RedisMembership.connect(given.redis, given.fleet) as membership:
        expected = given.expect_prefill + given.expect_decode

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = (await reader.readline()).split()[1].decode()
            members = await membership.members()
            loads = [{"worker_id": member.worker_id, "load": LOAD} for member in members]
            body = json.dumps({"workers": loads}) if path.startswith("/fleet") else "{}"
            status = 200 if len(members) >= expected else 503
            head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
            writer.write(f"{head}\r\n{body}".encode())
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, given.host, int(given.port)):
            await stop.wait()


LOAD = {
    "num_running": 2,
    "num_waiting": 1,
    "num_kv_blocks": 400,
    "num_kv_blocks_used": 12,
    "transfers": {"sent_bytes": 45_200_000, "received_bytes": 0, "open_sends": 3},
}
