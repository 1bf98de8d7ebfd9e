from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from kvtransfer.peer_process import ProcessId, ProcessWatch
from kvtransfer.ucx_limits import files_open

PATIENCE_SECONDS = 10.0


@pytest.fixture
def watch() -> Iterator[ProcessWatch]:
    watch = ProcessWatch()
    yield watch
    watch.close()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    """A process that lives until it is killed."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def test_a_process_is_known_by_its_start() -> None:
    here = ProcessId.of(os.getpid())
    assert here == ProcessId.of(os.getpid())
    assert here.started_at > 0


def test_the_end_of_a_process_wakes_who_sleeps(
    watch: ProcessWatch, other: subprocess.Popen[bytes]
) -> None:
    peer = watch.add(ProcessId.of(other.pid))
    seen = [peer.is_gone]
    other.kill()
    assert select.select([watch.fd], [], [], PATIENCE_SECONDS)[0]
    seen.append(peer.is_gone)
    watch.look()
    seen.append(peer.is_gone)
    assert seen == [False, False, True]
    assert not select.select([watch.fd], [], [], 0)[0]


def test_one_that_is_no_more_has_gone(watch: ProcessWatch, other: subprocess.Popen[bytes]) -> None:
    process = ProcessId.of(other.pid)
    other.kill()
    other.wait()
    assert watch.add(process).is_gone


def test_a_later_process_of_the_same_number_is_another(
    watch: ProcessWatch, other: subprocess.Popen[bytes]
) -> None:
    process = ProcessId.of(other.pid)
    earlier = replace(process, started_at=process.started_at - 1)
    peer = watch.add(earlier)
    assert peer.is_gone
    assert not watch.add(process).is_gone


def test_ones_own_process_is_never_gone(watch: ProcessWatch) -> None:
    peer = watch.add(ProcessId.of(os.getpid()))
    watch.look()
    assert not peer.is_gone
    peer.close()


def test_nobody_asks_about_one_any_more(
    watch: ProcessWatch, other: subprocess.Popen[bytes]
) -> None:
    num_files = files_open()
    peers = [watch.add(ProcessId.of(other.pid)) for _ in range(3)]
    assert files_open() == num_files + 3
    peers[0].close()
    peers[0].close()
    other.kill()
    other.wait()
    watch.look()
    assert [peer.is_gone for peer in peers] == [False, True, True]
    for peer in peers:
        peer.close()
    assert files_open() == num_files
