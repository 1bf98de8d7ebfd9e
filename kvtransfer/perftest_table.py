"""The performance test's results as a table for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median

from kvtransfer.perftest_driver import Row

_WIDTH = 27
_GROUPS = "|".join(f"{name:^{_WIDTH}}" for name in ("latency, us", "A to B, GB/s", "B to A, GB/s"))
_COLUMNS = "|".join([f"{'ours':>8}{'reference':>11}{'ratio':>7} "] * 3)
HEADER = (
    f"{'':>8} |{_GROUPS}|{'both':>7} |{'CPU':>7}\n{'size':>8} |{_COLUMNS}|{'GB/s':>7} |{'s/GB':>7}"
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A whole prompt moved some times, from paged cache to paged cache."""

    num_tokens: int
    num_layers: int
    num_bytes: int
    seconds: list[float]

    def __str__(self) -> str:
        middle = median(self.seconds)
        return (
            f"prompt of {self.num_tokens} tokens, {self.num_layers} layers, "
            f"{self.num_bytes / 1e6:.1f} MB, from cache to cache: {middle * 1e3:.1f} ms, "
            f"{self.num_bytes / middle / 1e9:.2f} GB/s "
            f"(best {min(self.seconds) * 1e3:.1f} ms, worst {max(self.seconds) * 1e3:.1f} ms)"
        )


@dataclass(slots=True)
class Results:
    """Of one run. `lanes` are the transports and devices that UCX used."""

    lanes: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    prompt: Prompt | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)


def line(row: Row) -> str:
    parts = [
        f"{size_name(row.num_bytes):>8} ",
        _compared(row.latency_seconds, row.reference_latency_seconds, 1e6),
        _compared(row.forth_bytes_per_second, row.reference_forth_bytes_per_second, 1e-9),
        _compared(row.back_bytes_per_second, row.reference_back_bytes_per_second, 1e-9),
        f"{row.both_bytes_per_second / 1e9:7.2f} ",
        f"{row.cpu_seconds_per_gb:7.3f}",
    ]
    return "|".join(parts)


def size_name(num_bytes: int) -> str:
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if num_bytes >= 1 << shift:
            return f"{num_bytes / (1 << shift):g} {unit}"
    return f"{num_bytes} B"


def size_of(name: str) -> int:
    """ "4k", "64KiB", "1m", "100"; raises ValueError."""
    text = name.strip().lower().removesuffix("b").removesuffix("i")
    shift = {"k": 10, "m": 20, "g": 30}.get(text[-1:], 0)
    size = int(float(text[:-1] if shift else text) * (1 << shift))
    if size < 1:
        raise ValueError(f"{name!r} is no size")
    return size


def _compared(ours: float, reference: float | None, scale: float) -> str:
    if not reference:
        return f"{ours * scale:8.2f}{'-':>11}{'-':>7} "
    return f"{ours * scale:8.2f}{reference * scale:11.2f}{ours / reference:7.2f} "
