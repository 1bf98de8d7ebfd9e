"""An open loop: requests go when they are due, whether or not others have been answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

import msgspec

from loadtest.replay.answer import StreamedAnswer
from loadtest.replay.check import load_check
from loadtest.replay.connection import ConnectionLost, ConnectionPool
from loadtest.replay.prompt_maker import PromptMaker
from loadtest.replay.records import Recorder, Records
from loadtest.replay.trace import TraceRequest
from loadtest.replay.workload import Conversation, Workload, conversations

TELL_SECONDS = 0.5
OK = 200
NOBODY = "no connection"
CUT = "stream was cut"
LATE = "timeout"


@dataclass(slots=True)
class Progress:
    """So far. `first_seconds` is the sum of all TTFTs."""

    num_sent: int = 0
    num_done: int = 0
    num_errors: int = 0
    num_first: int = 0
    first_seconds: float = 0.0

    @property
    def num_open(self) -> int:
        return self.num_sent - self.num_done - self.num_errors

    def add(self, other: Progress) -> None:
        self.num_sent += other.num_sent
        self.num_done += other.num_done
        self.num_errors += other.num_errors
        self.num_first += other.num_first
        self.first_seconds += other.first_seconds


class OpenLoop:
    """Replays one workload, once. `began_at` is 0 of its times, on the monotonic clock."""

    def __init__(
        self, workload: Workload, began_at: float, tell: Callable[[Progress], None]
    ) -> None:
        self._workload = workload
        self._began_at = began_at
        self._tell = tell
        self._maker = PromptMaker(workload.vocabulary, workload.seed)
        self._check = load_check(workload.check) if workload.check else None
        self._pool = ConnectionPool(*workload.address)
        self._head, self._tail = self._frame()
        self._places = asyncio.Semaphore(workload.max_open)
        self._recorder = Recorder(began_at)
        self._progress = Progress()

    async def run(self) -> Records:
        teller = asyncio.create_task(self._tell_often())
        try:
            async with asyncio.TaskGroup() as talks:
                for conversation in conversations(self._workload.requests):
                    await sleep_until(self._began_at + conversation[0].at_seconds)
                    talks.create_task(self._hold(conversation))
        finally:
            teller.cancel()
            self._pool.close()
        self._tell(self._progress)
        return self._recorder.records()

    async def _hold(self, conversation: Conversation) -> None:
        answers: list[Sequence[int]] = []
        due_at = self._began_at + conversation[0].at_seconds
        for request in conversation:
            if answers:
                due_at = monotonic() + request.think_seconds
                await sleep_until(due_at)
            async with self._places:
                answer = await self._ask(request, answers, due_at)
            answers.append(answer.token_ids)

    async def _ask(
        self, request: TraceRequest, answers: Sequence[Sequence[int]], due_at: float
    ) -> StreamedAnswer:
        message = self._message(request, answers)
        answer = StreamedAnswer()
        self._progress.num_sent += 1
        sent_at = monotonic()
        error = await self._outcome(message, answer)
        ended_at = monotonic()
        if not error and self._check is not None:
            prompt = self._maker.tokens(request, answers).tolist()
            error = self._check(prompt, request.num_output_tokens, answer.token_ids)
        self._recorder.add(request, (due_at, sent_at, ended_at), answer, error)
        self._count(answer, sent_at, error)
        return answer

    async def _outcome(self, message: bytes, answer: StreamedAnswer) -> str:
        """What kind of error it was, or nothing."""
        try:
            async with asyncio.timeout(self._workload.timeout_seconds):
                status = await self._pool.ask(message, answer.feed)
        except TimeoutError:
            return LATE
        except ConnectionLost:
            return answer.error or ("" if answer.is_complete else CUT)
        except OSError:
            return NOBODY
        if status != OK and not answer.error:
            return f"HTTP {status}"
        return answer.error or ("" if answer.is_complete else CUT)

    def _count(self, answer: StreamedAnswer, sent_at: float, error: str) -> None:
        if error:
            self._progress.num_errors += 1
        else:
            self._progress.num_done += 1
        if answer.num_events:
            self._progress.num_first += 1
            self._progress.first_seconds += answer.first_at - sent_at

    def _frame(self) -> tuple[str, str]:
        """What is the same in all requests: the HTTP head and the body's end."""
        host, port = self._workload.address
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: {host}:{port}\r\n"
            "content-type: application/json\r\naccept: text/event-stream\r\ncontent-length: "
        )
        settings = {
            "model": self._workload.model,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self._workload.wants_token_ids:
            settings["return_token_ids"] = True
        return head, msgspec.json.encode(settings).decode().removeprefix("{")

    def _message(self, request: TraceRequest, answers: Sequence[Sequence[int]]) -> bytes:
        prompt = self._maker.text(request, answers)
        length = request.num_output_tokens
        body = f'{{"prompt":{prompt},"max_tokens":{length},{self._tail}'
        return f"{self._head}{len(body)}\r\n\r\n{body}".encode()

    async def _tell_often(self) -> None:
        while True:
            self._tell(self._progress)
            await asyncio.sleep(TELL_SECONDS)


async def sleep_until(moment: float) -> None:
    await asyncio.sleep(max(0.0, moment - monotonic()))
