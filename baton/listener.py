"""The address that the gateway will listen on."""

from __future__ import annotations

import errno
import socket

from baton.errors import BadAddress

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}


def free_port(host: str, port: int) -> int:
    """`port`, or a free one for 0. Raises BadAddress if nothing can listen there now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the gateway does: a connection in TIME_WAIT does not make a port taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        raise BadAddress(explain(error, host, port)) from error


def explain(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: choose another with --port"
    if error.errno == errno.EACCES:
        return f"port {port} on {host} is not open to this user: choose another with --port"
    return f"cannot listen on {host}: {error.strerror or error}: choose another with --host"


def reachable_host(host: str) -> str:
    """Where a client on this machine finds what listens on `host`."""
    return ANY_ADDRESS.get(host, host)


def base_url(host: str, port: int) -> str:
    name = reachable_host(host)
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
