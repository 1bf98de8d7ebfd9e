"""The parent of several processes, over processes that do nothing else."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

PROGRAM = """
import os, signal, sys
from pathlib import Path
from gateway.process_keeper import ProcessKeeper, tell_parent

folder = Path(sys.argv[1])

def stay():
    tell_parent()
    signal.pause()

def serve(number):
    # In one piece: others write, too.
    os.write(1, b"%d started\\n" % number)
    {serve}

keeper = ProcessKeeper(3, serve, lambda pid: None, lambda: print("stopping", flush=True), 0.5)
sys.exit(keeper.run())
"""


@asynccontextmanager
async def keeping(serve: str, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM.format(serve=serve), str(folder),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def lines(process: asyncio.subprocess.Process, num_lines: int) -> list[str]:
    assert process.stdout
    return [(await process.stdout.readline()).decode().strip() for _ in range(num_lines)]


async def test_the_first_ones_failure_is_the_parents(tmp_path: Path) -> None:
    async with keeping("return 7", tmp_path) as process:
        written, said = await process.communicate()
    assert process.returncode == 7
    assert (written, said) == (b"0 started\n", b"")


async def test_a_first_one_that_is_killed_is_one_line(tmp_path: Path) -> None:
    async with keeping("os.kill(os.getpid(), signal.SIGKILL)", tmp_path) as process:
        _, said = await process.communicate()
    assert process.returncode == 1
    assert said == b"error: the gateway was ended by signal 9 before it served\n"


async def test_the_others_follow_and_all_end_with_sigterm(tmp_path: Path) -> None:
    async with keeping("stay()", tmp_path) as process:
        assert sorted(await lines(process, 3)) == ["0 started", "1 started", "2 started"]
        process.send_signal(signal.SIGTERM)
        assert await lines(process, 1) == ["stopping"]
        assert await process.wait() == 0


async def test_who_does_not_end_is_killed(tmp_path: Path) -> None:
    serve = (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); tell_parent()\n    while 1: signal.pause()"
    )
    async with keeping(serve, tmp_path) as process:
        await lines(process, 3)
        async with asyncio.timeout(10):
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


async def test_who_dies_is_started_again_and_again(tmp_path: Path) -> None:
    serve = "if number == 1: sys.exit(3)\n    stay()"
    async with keeping(serve, tmp_path) as process:
        started = await lines(process, 5)
        process.send_signal(signal.SIGTERM)
        _, said = await process.communicate()
    assert sorted(started) == ["0 started", "1 started", "1 started", "1 started", "2 started"]
    assert b"gateway process 1 ended with code 3; it starts again in 0.5 s" in said
    assert b"gateway process 1 ended with code 3; it starts again in 1.0 s" in said
    assert process.returncode == 0
