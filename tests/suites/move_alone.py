"""How long bytes take over a link when nothing else is done: one plain TCP stream."""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor

from tests.suites.network import Link, Namespace

CHUNK_BYTES = 1 << 20
PATIENCE_SECONDS = 120.0


def move_seconds(link: Link, num_bytes: int) -> float:
    """From the far end to the near one."""
    with ThreadPoolExecutor(1) as far, ThreadPoolExecutor(1) as near:
        listener = near.submit(listen, link.near).result()
        with listener:
            sending = far.submit(send, link.far, listener.getsockname(), num_bytes)
            seconds = near.submit(receive, listener, num_bytes).result(PATIENCE_SECONDS)
            sending.result()
            return seconds


def listen(place: Namespace) -> socket.socket:
    place.enter()
    return socket.create_server((place.address, 0))


def send(place: Namespace, address: tuple[str, int], num_bytes: int) -> None:
    place.enter()
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        for offset in range(0, num_bytes, CHUNK_BYTES):
            connection.sendall(bytes(min(CHUNK_BYTES, num_bytes - offset)))


def receive(listener: socket.socket, num_bytes: int) -> float:
    """Raises OSError if less came."""
    connection, _ = listener.accept()
    with connection:
        connection.settimeout(PATIENCE_SECONDS)
        started_at = time.perf_counter()
        while num_bytes:
            received = len(connection.recv(min(CHUNK_BYTES, num_bytes)))
            if not received:
                raise OSError(f"{num_bytes} bytes did not come")
            num_bytes -= received
        return time.perf_counter() - started_at
