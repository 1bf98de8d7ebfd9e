"""Starts processes, starts those again that die, and ends them all."""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from fleet.backoff import Backoff

# Who has lived so long is started again at once.
STEADY_SECONDS = 60.0
SERVING = signal.SIGUSR1
STOPS = (signal.SIGTERM, signal.SIGINT)
WATCHED = {*STOPS, SERVING, signal.SIGCHLD}
PR_SET_PDEATHSIG = 1

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Place:
    """One of the processes: the `pid` of the one that runs, or when the next one is due."""

    number: int
    pid: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    backoff: Backoff = field(default_factory=lambda: Backoff(0.5, 30.0, jitter=False))


class ProcessKeeper:
    """The parent of forked processes, each of which is to run `serve(number)`.

    `on_end` is told each pid that is no more, `on_stop` is called before they are told to stop.
    The first one is alone until it serves, so that a start that fails says so once. It has no
    threads and no event loop, so that it can fork at any time.
    """

    def __init__(
        self,
        num_processes: int,
        serve: Callable[[int], int],
        on_end: Callable[[int], None],
        on_stop: Callable[[], None],
        grace_seconds: float,
    ) -> None:
        self._places = [Place(number) for number in range(num_processes)]
        self._serve = serve
        self._on_end = on_end
        self._on_stop = on_stop
        self._grace_seconds = grace_seconds
        self._has_served = False

    def run(self) -> int:
        """Until told to stop, or until the first process ends before it serves; the exit code."""
        signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
        self._start(self._places[0])
        while True:
            received = signal.sigtimedwait(WATCHED, self._seconds_to_wait())
            if received and received.si_signo in STOPS:
                return self._stop()
            self._has_served |= bool(received and received.si_signo == SERVING)
            for place, code in self._ended():
                if not self._has_served:
                    return said(code)
                self._note_end(place, code)
            self._start_due()

    def _start(self, place: Place) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        place.started_at = time.monotonic()
        try:
            place.pid = os.fork()
        except OSError as error:
            if not self._has_served:
                raise
            self._wait_before_next(place, f"cannot be started: {error}")
            return
        if not place.pid:
            os._exit(self._be(place.number, parent))

    def _be(self, number: int, parent: int) -> int:
        """In the new process."""
        try:
            die_with(parent)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
            return self._serve(number)
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1
        except BaseException:
            traceback.print_exc()
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if self._has_served and not place.pid and place.due_at <= now:
                self._start(place)

    def _seconds_to_wait(self) -> float:
        waiting = [place.due_at for place in self._places if not place.pid]
        if not waiting or not self._has_served:
            return STEADY_SECONDS
        return max(0.0, min(waiting) - time.monotonic())

    def _ended(self) -> Iterator[tuple[Place, int]]:
        """Who has ended since, and with which exit code; -n if signal n ended it."""
        for place in self._places:
            if not place.pid:
                continue
            pid, status = os.waitpid(place.pid, os.WNOHANG)
            if pid:
                self._on_end(pid)
                place.pid = 0
                yield place, os.waitstatus_to_exitcode(status)

    def _note_end(self, place: Place, code: int) -> None:
        if time.monotonic() - place.started_at >= STEADY_SECONDS:
            place.backoff.reset()
        self._wait_before_next(place, how(code))

    def _wait_before_next(self, place: Place, why: str) -> None:
        pause = place.backoff.next()
        place.due_at = time.monotonic() + pause
        logger.warning("gateway process %d %s; it starts again in %.1f s", place.number, why, pause)

    def _stop(self) -> int:
        self._on_stop()
        self._signal_all(signal.SIGTERM)
        deadline = time.monotonic() + self._grace_seconds
        while any(place.pid for place in self._places):
            left = deadline - time.monotonic()
            if left <= 0:
                self._signal_all(signal.SIGKILL)
            signal.sigtimedwait({signal.SIGCHLD}, max(0.1, left))
            for _ in self._ended():
                pass
        return 0

    def _signal_all(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)

    def __repr__(self) -> str:
        running = [place for place in self._places if place.pid]
        return f"<ProcessKeeper {len(running)} of {len(self._places)} running>"


def tell_parent() -> None:
    """That this process serves."""
    os.kill(os.getppid(), SERVING)


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends, however it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit(1)


def said(code: int) -> int:
    """The exit code of a start that failed. Who ended by a signal has not said why."""
    if code < 0:
        sys.stderr.write(f"error: the gateway {how(code)} before it served\n")
    return code if code >= 0 else 1


def how(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
