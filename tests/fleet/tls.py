"""TLS in front of a server that has none of its own: the servers in wheels are built without."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from trustme import CA

HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Authority:
    """Who signs certificates. Its files are for those who connect."""

    folder: Path
    ca: CA

    @classmethod
    def make(cls, folder: Path) -> Authority:
        authority = cls(folder, CA())
        authority.ca.cert_pem.write_to_path(str(authority.file))
        client = authority.ca.issue_cert("gateway@fleet.test")
        client.private_key_pem.write_to_path(str(folder / "client.key"))
        client.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
        return authority

    @property
    def file(self) -> Path:
        return self.folder / "ca.pem"

    def options(self) -> str:
        """Of a URL: who is trusted, and the client's own certificate."""
        client = f"ssl_certfile={self.folder}/client.pem&ssl_keyfile={self.folder}/client.key"
        return f"ssl_ca_certs={self.file}&{client}"

    def server_context(self, host: str, wants_client: bool) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.ca.issue_cert(host).configure_cert(context)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self.ca.configure_trust(context)
        return context


@asynccontextmanager
async def tls_before(
    server: Path, authority: Authority, host: str = HOST, wants_client: bool = False
) -> AsyncIterator[int]:
    """The port on loopback where what comes over TLS goes on to the unix socket `server`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(str(server))
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    context = authority.server_context(host, wants_client)
    async with await asyncio.start_server(serve, HOST, 0, ssl=context) as listening:
        yield listening.sockets[0].getsockname()[1]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, ssl.SSLError):
        pass
    finally:
        writer.close()
