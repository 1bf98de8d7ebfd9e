"""Serving in the background, with a foreground that waits until it is ready."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from baton.launch import die_with, set_death_signal

READY = b"."


def detach(serve: Callable[[Callable[[], None]], int], log: Path) -> int:
    """Runs `serve(on_up)` in a process of its own; the exit code for the foreground.

    Until `on_up` is called, the background writes to this terminal and ends with this
    process; from then on it writes to `log` and is on its own, and this returns 0.
    """
    reader, writer = os.pipe()
    foreground = os.getpid()
    if (background := os.fork()) == 0:
        os.close(reader)
        become_background(lambda: serve(lambda: let_go(writer, log)), foreground)
    os.close(writer)
    return wait_for(background, reader)


def wait_for(background: int, reader: int) -> int:
    """0 once it is ready, else its exit code. Signals are passed on."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: os.kill(background, signal.SIGTERM))
    with os.fdopen(reader, "rb") as pipe:
        if pipe.read(len(READY)):
            return 0
    return os.waitstatus_to_exitcode(os.waitpid(background, 0)[1])


def become_background(run: Callable[[], int], foreground: int) -> NoReturn:
    """Never returns into the caller's code, which belongs to the foreground."""
    exit_code = 1
    try:
        os.setsid()
        die_with(foreground, signal.SIGTERM)
        redirect(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
        exit_code = run()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)


def let_go(writer: int, log: Path) -> None:
    set_death_signal(0)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    sys.stdout.flush()
    os.dup2(output, sys.stdout.fileno())
    redirect(output, sys.stderr.fileno())
    os.write(writer, READY)
    os.close(writer)


def redirect(source: int, target: int) -> None:
    os.dup2(source, target)
    os.close(source)
