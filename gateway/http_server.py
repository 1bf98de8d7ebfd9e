"""Serving the door over HTTP until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from math import ceil

import uvicorn
from starlette.types import ASGIApp

from gateway.errors import GatewayError, StartError

BACKLOG = 2048
KEEP_ALIVE_SECONDS = 60
# Beyond the drain: what remains has an error by then and only has to be written.
FLUSH_SECONDS = 2


def bind(host: str, port: int) -> socket.socket:
    """A socket that does not listen yet. Raises StartError if it cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StartError(f"cannot listen on {host}:{port}: {reason}") from error
    return sock


class Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, on_serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_serving = on_serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_serving()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the composition root's: uvicorn would end the process by them."""
        yield


async def serve_http(
    app: ASGIApp,
    sock: socket.socket,
    stop: asyncio.Event,
    drain: Callable[[], Awaitable[None]],
    drain_seconds: float,
    on_serving: Callable[[], None] = lambda: None,
) -> None:
    """Serves until `stop` is set; then takes nothing new, and returns when all is answered.

    `on_serving` is called when it listens. `drain` sees to that within `drain_seconds`.
    Raises GatewayError if the server ends alone.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=ceil(drain_seconds) + FLUSH_SECONDS,
    )
    server = Server(config, on_serving)

    async def end() -> None:
        await stop.wait()
        server.should_exit = True
        await drain()

    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(end())
        await server.serve(sockets=[sock])
        if not stop.is_set():
            ending.cancel()
            raise GatewayError("the HTTP server ended")
