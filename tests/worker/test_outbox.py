from __future__ import annotations

import asyncio

from proto import worker_pb2
from worker.outbox import Outbox


def message(nonce: int) -> worker_pb2.FromWorker:
    return worker_pb2.FromWorker(pong=worker_pb2.Pong(nonce=nonce))


def report(num_running: int) -> worker_pb2.LoadReport:
    return worker_pb2.LoadReport(num_running=num_running)


async def test_messages_come_in_order_and_the_last_report_after_them() -> None:
    outbox = Outbox()
    outbox.put_load(report(1))
    outbox.put(message(1))
    outbox.put_load(report(2))
    outbox.put(message(2))
    outbox.finish()
    assert [await outbox.get() for _ in range(4)] == [
        message(1),
        message(2),
        worker_pb2.FromWorker(load=report(2)),
        None,
    ]


async def test_a_reader_waits_for_the_next_message() -> None:
    outbox = Outbox()
    reader = asyncio.ensure_future(outbox.get())
    await asyncio.wait([reader], timeout=0)
    assert not reader.done()
    outbox.put(message(1))
    assert await reader == message(1)


async def test_a_reader_learns_of_the_end() -> None:
    outbox = Outbox()
    reader = asyncio.ensure_future(outbox.get())
    await asyncio.wait([reader], timeout=0)
    outbox.finish()
    outbox.put(message(1))
    outbox.put_load(report(1))
    assert await reader is None


def test_too_many_messages_overflow() -> None:
    outbox = Outbox(max_messages=2)
    outbox.put(message(1))
    outbox.put(message(2))
    assert not outbox.overflowed.is_set()
    outbox.put(message(3))
    assert outbox.overflowed.is_set()


async def test_too_many_bytes_overflow_and_what_was_sent_does_not_count() -> None:
    outbox = Outbox(max_bytes=100)
    outbox.put(message(1), 60)
    await outbox.get()
    outbox.put(message(2), 60)
    assert repr(outbox) == "<Outbox: 1 messages, 60 bytes>"
    assert not outbox.overflowed.is_set()
    outbox.put(message(3), 60)
    assert outbox.overflowed.is_set()
