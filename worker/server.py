"""The gRPC server of one worker."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio

from proto.worker_pb2_grpc import add_WorkerServicer_to_server
from worker.errors import PortTaken
from worker.hub import MAX_MESSAGE_BYTES
from worker.servicer import Servicer

STOP_SECONDS = 1.0

OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two workers on one port would each get some of the sessions.
    ("grpc.so_reuseport", 0),
    # A gateway whose host has vanished says nothing: find out, and free what it holds.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # A gateway may ping as well, however often it likes.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)


def check_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises PortTaken."""
    try:
        info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = info[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            free: int = probe.getsockname()[1]
            return free
    except OSError as error:
        raise PortTaken(host, port, error.strerror or str(error)) from error


@asynccontextmanager
async def open_server(servicer: Servicer, host: str, port: int) -> AsyncIterator[int]:
    """Serves on the port it yields. Raises PortTaken. At the end, sessions are cut off."""
    server = grpc.aio.server(options=OPTIONS)
    add_WorkerServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:
        raise PortTaken(host, port, "the port cannot be bound") from error
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(grace=STOP_SECONDS)
