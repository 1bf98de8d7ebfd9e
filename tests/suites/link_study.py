"""What was measured over links of several rates, as a table."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from baton.table import render
from tests.suites.sample import Sample, medians

STREAMING, PULL, NIXL = "streaming", "pull after prefill", "NixlConnector (pull)"
HEADING = (
    *("link", "KV alone", "hand-off", "prefill", "TTFT", "decode step", "exposed"),
    "(TTFT - step) / prefill without limit",
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A rate of the link, None for no limit, and how long the KV takes over it alone."""

    bits_per_second: float | None
    move_seconds: float

    def __str__(self) -> str:
        rate = self.bits_per_second
        return f"{rate / 1e6:.0f} Mbit/s" if rate else "no limit"


@dataclass(frozen=True, slots=True)
class Row:
    setting: Setting
    method: str
    samples: tuple[Sample, ...]

    def cells(self, free_prefill_seconds: float) -> tuple[str, ...]:
        found = medians(self.samples)
        return (
            str(self.setting),
            f"{self.setting.move_seconds:.2f} s",
            self.method,
            f"{found.prefill_seconds:.2f} s",
            f"{found.first_token_seconds:.2f} s",
            f"{1e3 * found.step_seconds:.0f} ms",
            f"{1e3 * found.exposed_seconds:+.0f} ms",
            f"{found.ready_seconds / free_prefill_seconds:.3f}",
        )


@dataclass(frozen=True, slots=True)
class Study:
    num_tokens: int
    moved_bytes: int
    rows: tuple[Row, ...]

    def worst_streaming(self) -> float:
        """Over limited links: TTFT less a step, in prefill times without limit, so that a prefill
        which sending slows down counts as well.
        """
        ready = max(
            medians(row.samples).ready_seconds
            for row in self.rows
            if row.method == STREAMING and row.setting.bits_per_second
        )
        return ready / self.free_prefill_seconds(STREAMING)

    def free_prefill_seconds(self, method: str) -> float:
        """The median over the link without limit."""
        return median(
            sample.prefill_seconds
            for row in self.rows
            if row.method == method and row.setting.bits_per_second is None
            for sample in row.samples
        )

    def show(self) -> str:
        rows = sorted(self.rows, key=lambda row: row.setting.move_seconds)
        cells = [row.cells(self.free_prefill_seconds(row.method)) for row in rows]
        lines = render(HEADING, cells)
        rounds = len(rows[0].samples)
        what = f"{self.num_tokens} tokens, {self.moved_bytes / 1e6:.1f} MB of KV"
        return "\n".join((f"{what}, medians of {rounds}", *lines, ""))

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=2) + "\n")
