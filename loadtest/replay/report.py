"""A replay in the terminal: one report a run, one table for a comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loadtest.replay.figures import Quantiles
from loadtest.replay.result import ReplayResult

# Later than this, the client was the bottleneck.
LATE_SECONDS = 0.1


def show(result: ReplayResult) -> str:
    figures = result.figures
    title = f"{result.name} at {result.url}" if result.name else f"Replay at {result.url}"
    counts = f"{figures.num_done:,} of {figures.num_requests:,} requests answered"
    lines = [f"{title}: {counts} in {figures.seconds:.1f} s", *latencies(result), ""]
    lines.append(
        f"throughput: {figures.requests_per_second:.2f} requests/s, "
        f"{figures.prompt_tokens_per_second:,.0f} prompt tokens/s, "
        f"{figures.output_tokens_per_second:,.0f} output tokens/s"
    )
    lines.append(
        f"goodput: {percent(figures.goodput_share)}, {figures.goodput_per_second:.2f} requests/s "
        f"(TTFT within {result.slo.ttft_seconds:g} s, TPOT within {result.slo.itl_seconds:g} s)"
    )
    lines += [hit_line(result), spread_line(result), *complaints(result)]
    return "\n".join(lines) + "\n"


def latencies(result: ReplayResult) -> list[str]:
    figures = result.figures
    rows: Mapping[str, Quantiles | None] = {
        "TTFT ms": figures.ttft,
        "ITL ms": figures.itl,
        "TPOT ms": figures.tpot,
        "E2E ms": figures.e2e,
        "sent late ms": figures.late,
    }
    table = [["", "mean", "p50", "p90", "p99"]]
    for name, quantiles in rows.items():
        table.append([name, *milliseconds(quantiles)])
    return aligned(table)


def milliseconds(quantiles: Quantiles | None) -> list[str]:
    if quantiles is None:
        return ["-"] * 4
    values = (quantiles.mean, quantiles.p50, quantiles.p90, quantiles.p99)
    return [f"{1e3 * value:,.1f}" for value in values]


def hit_line(result: ReplayResult) -> str:
    pooled = result.pooled
    parts = [f"hit rate: {percent(result.hit_rate)}"]
    if result.hit_rate is not None:
        parts[0] += f" of prompt tokens (told by {result.hit_source})"
    if result.computed_share is not None:
        parts.append(f"computed {percent(result.computed_share)}")
    if pooled.num_blocks is not None:
        size = f"{pooled.num_blocks:,} blocks of {pooled.block_tokens} tokens"
        parts.append(f"one pooled cache of {size} {percent(pooled.bounded)}")
    parts.append(f"an endless one {percent(pooled.unbounded)}")
    return "; ".join(parts)


def spread_line(result: ReplayResult) -> str:
    each = [f"{role} {spread:.2f}" for role, spread in result.spreads.items()]
    return f"load spread, busiest worker over the mean: {', '.join(each) or 'not told'}"


def complaints(result: ReplayResult) -> list[str]:
    figures = result.figures
    lines = [f"failed: {number:,} x {kind}" for kind, number in sorted(figures.errors.items())]
    if figures.late is not None and figures.late.p99 > LATE_SECONDS:
        lines.append(
            "the client could not keep up: more --clients, less --speed or a larger --max-open"
        )
    return lines


def compare(results: Sequence[ReplayResult]) -> str:
    """Every run beside the first, each figure with its ratio to the first's."""
    first, *_ = columns = [comparable(result) for result in results]
    table = [["", *(result.name for result in results)]]
    for name, base in first.items():
        cells = [beside(column.get(name), base) for column in columns[1:]]
        table.append([name, number(base), *cells])
    return "\n".join(aligned(table)) + "\n"


def comparable(result: ReplayResult) -> dict[str, float | None]:
    figures = result.figures
    spreads = {f"{role} load spread": spread for role, spread in result.spreads.items()}
    return {
        "TTFT mean ms": ms(figures.ttft, "mean"),
        "TTFT p50 ms": ms(figures.ttft, "p50"),
        "TTFT p99 ms": ms(figures.ttft, "p99"),
        "ITL mean ms": ms(figures.itl, "mean"),
        "ITL p99 ms": ms(figures.itl, "p99"),
        "E2E p50 ms": ms(figures.e2e, "p50"),
        "requests/s": figures.requests_per_second,
        "goodput requests/s": figures.goodput_per_second,
        "goodput %": 100 * figures.goodput_share,
        "hit rate %": None if result.hit_rate is None else 100 * result.hit_rate,
        "computed %": None if result.computed_share is None else 100 * result.computed_share,
        **spreads,
        "failed": figures.num_requests - figures.num_done,
    }


def beside(value: float | None, base: float | None) -> str:
    ratio = f" (x{value / base:.2f})" if value is not None and base else ""
    return number(value) + ratio


def number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.2f}" if isinstance(value, float) and value < 100 else f"{value:,.0f}"


def ms(quantiles: Quantiles | None, name: str) -> float | None:
    return None if quantiles is None else 1e3 * float(getattr(quantiles, name))


def percent(share: float | None) -> str:
    return "not told" if share is None else f"{100 * share:.1f} %"


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in table
    ]
