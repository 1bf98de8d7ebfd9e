"""One line on a terminal that says how far a replay is."""

from __future__ import annotations

from time import monotonic
from typing import TextIO

from loadtest.replay.open_loop import Progress


class ProgressLine:
    """Silent where nobody looks."""

    def __init__(self, num_requests: int, out: TextIO) -> None:
        self._num_requests = num_requests
        self._out = out
        self._began_at = monotonic()

    def show(self, progress: Progress) -> None:
        if not self._out.isatty():
            return
        first = progress.first_seconds / max(1, progress.num_first)
        self._out.write(
            f"\r{monotonic() - self._began_at:6.1f} s  "
            f"sent {progress.num_sent:,} of {self._num_requests:,}  open {progress.num_open:,}  "
            f"answered {progress.num_done:,}  failed {progress.num_errors:,}  "
            f"mean TTFT {1e3 * first:,.0f} ms\033[K"
        )
        self._out.flush()

    def clear(self) -> None:
        if self._out.isatty():
            self._out.write("\r\033[K")
            self._out.flush()
