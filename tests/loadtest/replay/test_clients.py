"""Several client processes share a workload, and their records come together."""

from __future__ import annotations

from loadtest.replay.clients import replay
from loadtest.replay.open_loop import Progress
from loadtest.replay.trace import Span, TraceRequest
from loadtest.replay.workload import Workload
from tests.loadtest.replay.sse_server import SseServer, serving


def talk(number: int) -> list[TraceRequest]:
    return [TraceRequest(0.0, (Span(number, 4),), 2, f"talk-{number}") for _ in range(3)]


def test_two_processes_send_all_requests_once() -> None:
    told: list[Progress] = []
    requests = [request for number in range(4) for request in talk(number)]
    with serving(SseServer()) as server:
        records = replay(Workload(server.url, "sse", requests), 2, told.append)
    assert records.is_done.all()
    assert len(records) == len(server.requests) == 12
    assert told[-1].num_done == 12


def test_a_conversation_stays_in_one_part() -> None:
    requests = [
        request for group in zip(talk(1), talk(2), talk(3), strict=True) for request in group
    ]
    parts = Workload("http://x", "m", requests, max_open=10).split(2)
    sessions = [{request.session for request in part.requests} for part in parts]
    assert sessions == [{"talk-1", "talk-3"}, {"talk-2"}]
    assert [part.max_open for part in parts] == [5, 5]
    assert len(Workload("http://x", "m", requests[:1]).split(4)) == 1
