"""HTTP/1.1 for thousands of streams at once: a parser in C under a bare asyncio protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from httptools import HttpParserError, HttpResponseParser

Body = Callable[[int, bytes], None]


class ConnectionLost(Exception):
    """`is_clean`: before a single byte of the answer came."""

    def __init__(self, reason: str, is_clean: bool) -> None:
        super().__init__(reason)
        self.is_clean = is_clean


class Connection(asyncio.Protocol):
    """Carries one request after another. Its owner closes it."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._body: Body | None = None
        self._done: asyncio.Future[int] | None = None
        self._status = 0
        self._num_bytes = 0
        self.is_usable = False

    async def ask(self, request: bytes, body: Body) -> int:
        """Returns the status when the answer has ended; `body` gets status and pieces of it.

        Raises ConnectionLost. After a cancellation the connection is closed.
        """
        if self._transport is None or not self.is_usable:
            raise ConnectionLost("closed before the request", is_clean=True)
        self._parser = HttpResponseParser(self)
        self._body, self._status, self._num_bytes = body, 0, 0
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        try:
            return await self._done
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._done = self._body = None

    def close(self) -> None:
        self.is_usable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's have the methods and not the class.
        self._transport = cast("asyncio.Transport", transport)
        self.is_usable = True

    def data_received(self, data: bytes) -> None:
        if self._parser is None or self._done is None:
            self.close()
            return
        self._num_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._fail(f"not HTTP: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_usable = False
        self._fail(str(exc) if exc else "closed by the server")

    def on_headers_complete(self) -> None:
        if self._parser is not None:
            self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        if self._body is not None:
            self._body(self._status, body)

    def on_message_complete(self) -> None:
        if self._parser is not None and not self._parser.should_keep_alive():
            self.close()
        if self._done is not None and not self._done.done():
            self._done.set_result(self._status)

    def _fail(self, reason: str) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionLost(reason, is_clean=self._num_bytes == 0))


class ConnectionPool:
    """Connections to one address: as many as there are open requests."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._idle: list[Connection] = []

    async def ask(self, request: bytes, body: Body) -> int:
        """As `Connection.ask`; OSError if there is no connection. A connection that the server
        has closed while it was idle is replaced.
        """
        while self._idle:
            connection = self._idle.pop()
            try:
                return await self._ask(connection, request, body)
            except ConnectionLost as lost:
                if not lost.is_clean:
                    raise
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, self._host, self._port
        )
        return await self._ask(connection, request, body)

    async def _ask(self, connection: Connection, request: bytes, body: Body) -> int:
        status = await connection.ask(request, body)
        if connection.is_usable:
            self._idle.append(connection)
        return status

    def close(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
