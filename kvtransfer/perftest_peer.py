"""The other process of the performance test: does what it is asked to over a pipe, in JSON."""

from __future__ import annotations

import contextlib
import json
import os
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from kvtransfer.perftest_messages import End, Stream
from kvtransfer.perftest_reference import Measurement, ReferenceServer
from kvtransfer.transport import Inbox
from kvtransfer.ucx import UcxTransport
from kvtransfer.ucx_link import UcxLink

MAX_REQUEST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Streamed:
    """What one end sent, how long that took, and the CPU time of its process meanwhile."""

    sent_bytes: int
    seconds: float
    cpu_seconds: float


class Peer:
    """One end of the test, in either process."""

    def __init__(self, transport: UcxTransport, link: UcxLink, inbox: Inbox, window: int) -> None:
        self._transport = transport
        self._end = End(transport, link, inbox)
        self._window = window
        self.link = link

    def ping(self, num_bytes: int, seconds: float) -> float:
        return self._end.ping(num_bytes, seconds)

    def echo(self, num_bytes: int) -> None:
        self._end.echo(num_bytes)

    def stream(self, num_bytes: int, send_seconds: float) -> Streamed:
        stream = Stream(self._end, num_bytes, send_seconds, self._window)
        cpu_seconds = time.process_time()
        seconds = stream.run()
        return Streamed(stream.num_sent * num_bytes, seconds, time.process_time() - cpu_seconds)

    def close(self) -> None:
        self._transport.close()


def serve(pipe: Connection, far_host: str) -> None:
    """Until the pipe is closed. `far_host` is where the asking process is reached."""
    hello = receive(pipe)
    settle_in(hello["tls"], hello["core"])
    transport = UcxTransport()
    pipe.send_bytes(transport.address)
    link = transport.connect(pipe.recv_bytes(MAX_REQUEST_BYTES))
    send(pipe, link.lanes)
    peer = Peer(transport, link, transport, hello["window"])
    with contextlib.suppress(EOFError, ConnectionError), contextlib.closing(peer):
        while True:
            _answer(pipe, peer, far_host, receive(pipe))


def _answer(pipe: Connection, peer: Peer, far_host: str, request: dict[str, Any]) -> None:
    match request.pop("do"):
        case "echo":
            peer.echo(**request)
        case "stream":
            done = peer.stream(**request)
            send(pipe, [done.sent_bytes, done.seconds, done.cpu_seconds])
        case "reference server":
            with ReferenceServer(**request) as server:
                send(pipe, server.port)
                receive(pipe)
        case "reference client":
            send(pipe, Measurement(far_host, **request).bytes_per_second())


def settle_in(tls: str | None, core: int | None) -> None:
    """This process uses these transports and this core, if they are given."""
    if tls is not None:
        os.environ["UCX_TLS"] = tls
    if core is not None:
        os.sched_setaffinity(0, {core})


def send(pipe: Connection, what: object) -> None:
    pipe.send_bytes(json.dumps(what).encode())


def receive(pipe: Connection) -> Any:
    """Raises EOFError when the other end has gone."""
    return json.loads(pipe.recv_bytes(MAX_REQUEST_BYTES))
