"""Pages as a gateway would serve them, on a real port."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

UNKNOWN_PAGE = (404, {"error": {"message": "There is no such path.", "code": "unknown_endpoint"}})


class SmallGateway(ThreadingHTTPServer):
    """`pages`: status and content by path, with the query; bytes are sent as they are."""

    daemon_threads = True

    def __init__(self, pages: Mapping[str, tuple[int, Any]]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.pages = pages

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: SmallGateway

    def do_GET(self) -> None:
        status, content = self.server.pages.get(self.path, UNKNOWN_PAGE)
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: object) -> None:
        """Nobody reads it."""


@contextmanager
def small_gateway(**pages: Any) -> Iterator[SmallGateway]:
    """By the last part of their paths, or more of them in `pages`."""
    with SmallGateway({f"/fleet/{name}": (200, page) for name, page in pages.items()}) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
