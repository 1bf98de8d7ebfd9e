"""A server that streams completions, in a thread of its own, and fails on demand."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

NUM_WORDS = 50_000
MODEL = {"id": "sse", "max_model_len": 4096}


@dataclass(slots=True)
class SseServer:
    """Every answer's tokens count up from the prompt's sum. What comes in is in `requests`;
    `failures` are what befalls the first requests, one each: "cut" (in mid-stream), "silent" (no
    end), "error event", "refuse" (503), "refuse in silence" (503 and no more), "close" (without
    an answer).
    """

    first_seconds: float = 0.0
    step_seconds: float = 0.0
    cached_tokens: int | None = None
    workers: list[dict[str, Any]] | None = None
    models: list[dict[str, Any]] = field(default_factory=lambda: [MODEL])
    failures: list[str] = field(default_factory=list)
    requests: list[Mapping[str, Any]] = field(default_factory=list)
    num_connections: int = 0
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.num_connections += 1
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(reader, writer):
                    pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = [line for line in head.split("\r\n") if line.startswith("content-length:")]
        body = await reader.readexactly(int(length[0].split(":")[1])) if length else b""
        path = head.split()[1].partition("?")[0]
        if path == "/v1/completions":
            return await self._complete(json.loads(body), writer)
        pages = {"/v1/models": {"data": self.models}}
        if self.workers is not None:
            pages["/fleet/workers"] = {"workers": self.workers}
        page = json.dumps(pages.get(path, {})).encode()
        write_page(writer, 200 if path in pages else 404, page)
        return True

    async def _complete(self, request: Mapping[str, Any], writer: asyncio.StreamWriter) -> bool:
        self.requests.append(request)
        failure = self.failures.pop(0) if self.failures else ""
        if failure == "close":
            return False
        if failure == "refuse":
            write_page(writer, 503, b'{"error": {"message": "full"}}')
            return True
        if failure == "refuse in silence":
            write_page(writer, 503, b"")
            return True
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.sleep(self.first_seconds)
        for event in self._events(request, failure):
            write_chunk(writer, b"data: " + event + b"\n\n")
            await writer.drain()
            await asyncio.sleep(self.step_seconds)
            if failure == "cut":
                return False
        if failure == "silent":
            await asyncio.sleep(60)
        writer.write(b"0\r\n\r\n")
        return True

    def _events(self, request: Mapping[str, Any], failure: str) -> Iterator[bytes]:
        if failure == "error event":
            yield json.dumps({"error": {"message": "lost", "type": "WorkerLost"}}).encode()
            return
        for token in answer_to(request):
            choice: dict[str, Any] = {"text": "x"}
            if request.get("return_token_ids"):
                choice["token_ids"] = [token]
            yield json.dumps({"choices": [choice]}).encode()
            if failure == "silent":
                return
        usage: dict[str, Any] = {
            "prompt_tokens": len(request["prompt"]),
            "completion_tokens": request["max_tokens"],
        }
        if self.cached_tokens is not None:
            usage["prompt_tokens_details"] = {"cached_tokens": self.cached_tokens}
        yield json.dumps({"choices": [], "usage": usage}).encode()
        yield b"[DONE]"


def answer_to(request: Mapping[str, Any]) -> list[int]:
    first = sum(request["prompt"]) % NUM_WORDS
    return [(first + number) % NUM_WORDS for number in range(request["max_tokens"])]


def write_page(writer: asyncio.StreamWriter, status: int, page: bytes) -> None:
    writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(page)}\r\n\r\n".encode() + page)


def write_chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")


@contextmanager
def serving(server: SseServer) -> Iterator[SseServer]:
    """Its `url` is set."""
    ready = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def run() -> None:
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 24)
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        ends.append((asyncio.get_running_loop(), asyncio.Event()))
        ready.set()
        await ends[0][1].wait()
        listener.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield server
    finally:
        loop, stop = ends[0]
        loop.call_soon_threadsafe(stop.set)
        thread.join(10)
