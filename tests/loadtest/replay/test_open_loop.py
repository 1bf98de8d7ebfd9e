"""The open loop against a server of the test's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import pytest

from loadtest.replay.open_loop import OpenLoop, Progress
from loadtest.replay.records import Records
from loadtest.replay.trace import Span, TraceRequest
from loadtest.replay.workload import Workload
from tests.loadtest.replay.sse_server import SseServer, answer_to, serving

TRACE = [TraceRequest(0.02 * number, (Span(number, 6),), 4) for number in range(10)]
TALK = [
    TraceRequest(0.0, (Span(1, 5),), 3, "talk"),
    TraceRequest(0.0, (Span(1, 5), Span(2, 3, turn=0), Span(3, 2)), 2, "talk", 0.05),
]


async def run(
    server: SseServer, requests: Sequence[TraceRequest], **settings: Any
) -> tuple[Records, Progress]:
    told: list[Progress] = []
    with serving(server):
        workload = Workload(server.url, "sse", requests, **settings)
        records = await OpenLoop(workload, monotonic(), told.append).run()
    return records, told[-1]


async def test_requests_go_when_they_are_due_and_are_timed() -> None:
    server = SseServer(first_seconds=0.15, step_seconds=0.02, cached_tokens=2)
    records, progress = await run(server, TRACE)
    assert records.is_done.all()
    assert sorted(records.sent_at) == pytest.approx([x.at_seconds for x in TRACE], abs=0.3)
    assert (records.first >= 0.15).all()
    assert (records.total >= records.first + 3 * 0.02).all()
    assert (records.num_tokens == 4).all()
    assert (records.num_cached_tokens == 2).all()
    assert len(records.gaps) == 30
    assert float(records.gaps.mean()) > 0.01
    assert (progress.num_sent, progress.num_done, progress.num_open) == (10, 10, 0)


async def test_a_slow_server_does_not_hold_requests_back() -> None:
    server = SseServer(first_seconds=1.0)
    records, _ = await run(server, TRACE)
    assert server.num_connections == 10
    assert records.sent_at.max() < 0.9


async def test_idle_connections_are_used_again() -> None:
    server = SseServer()
    trace = [replace(each, at_seconds=5 * each.at_seconds) for each in TRACE]
    records, _ = await run(server, trace)
    assert records.is_done.all()
    assert server.num_connections < 10


async def test_requests_say_what_they_want() -> None:
    server = SseServer()
    await run(server, TRACE[:1])
    (request,) = server.requests
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("sse", 4, 0)
    assert request["ignore_eos"]
    assert request["stream_options"] == {"include_usage": True}
    assert len(request["prompt"]) == 6
    assert "return_token_ids" not in request


async def test_later_turns_hold_the_answers_and_wait_for_the_user() -> None:
    server = SseServer()
    records, _ = await run(server, TALK)
    first, second = server.requests
    assert second["prompt"][:5] == first["prompt"]
    assert second["prompt"][5:8] == answer_to(first)
    assert records.sent_at[1] >= records.sent_at[0] + records.total[0] + 0.05


async def test_a_bound_makes_requests_wait() -> None:
    server = SseServer(first_seconds=0.1)
    records, _ = await run(server, TRACE[:4], max_open=1)
    assert server.num_connections == 1
    assert records.late.max() > 0.2


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        ("cut", "stream was cut"),
        ("silent", "timeout"),
        ("close", "stream was cut"),
        ("refuse", "HTTP 503: full"),
        ("refuse in silence", "HTTP 503"),
        ("error event", "error event: lost"),
    ],
)
async def test_failures_are_told_by_kind_and_befall_one_request(failure: str, error: str) -> None:
    server = SseServer(failures=[failure])
    timeout_seconds = 1.0 if failure == "silent" else 20.0
    records, progress = await run(server, TRACE[:3], timeout_seconds=timeout_seconds)
    assert sorted(records.error) == ["", "", error]
    assert progress.num_errors == 1


async def test_nobody_there_is_told() -> None:
    workload = Workload("http://127.0.0.1:1", "sse", TRACE[:2])
    records = await OpenLoop(workload, monotonic(), lambda progress: None).run()
    assert records.error.tolist() == ["no connection"] * 2


async def test_a_connection_that_the_server_closed_while_idle_is_replaced() -> None:
    server = SseServer(failures=["", "close"])
    trace = [TraceRequest(at, (Span(1, 3),), 2) for at in (0.0, 0.2)]
    records, _ = await run(server, trace)
    assert records.is_done.all()
    assert server.num_connections == 2


def short_answers(prompt: Sequence[int], num_output_tokens: int, answer: Sequence[int]) -> str:
    assert answer == answer_to({"prompt": prompt, "max_tokens": num_output_tokens})
    return "too short" if num_output_tokens < 3 else ""


@pytest.mark.parametrize(
    ("check", "errors"),
    [
        ("loadtest.replay.check:length", ["", ""]),
        (f"{__name__}:short_answers", ["", "too short"]),
    ],
)
async def test_answers_are_checked(check: str, errors: list[str]) -> None:
    records, _ = await run(SseServer(), TALK, check=check)
    assert records.error.tolist() == errors
