"""A replay as a picture; matplotlib draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loadtest.replay.errors import BadInput
from loadtest.replay.records import Column
from loadtest.replay.result import ReplayResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png", ".pdf")
SIZE_INCHES = (13.0, 7.5)
NUM_BINS = 60
# Where the largest value is this many times the smallest, or more, an axis is logarithmic.
WIDE = 20.0
MOST_LABELS = 40


def check_plot(path: Path) -> None:
    """Raises BadInput if no plot can be saved there."""
    if path.suffix not in SUFFIXES:
        raise BadInput(f"--plot: a file ending in {', '.join(SUFFIXES)}, not {path}")
    try:
        import matplotlib  # noqa: F401 - only who wants a plot needs it
    except ImportError as error:
        raise BadInput("--plot needs matplotlib: pip install 'baton-serve[plot]'") from error


def save_plot(path: Path, title: str, results: Sequence[ReplayResult]) -> None:
    """Raises OSError."""
    # Not pyplot: it looks for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(2, 3).flat
    draw_distribution(next(axes), "TTFT", {name(each): each.records.first for each in results})
    draw_distribution(next(axes), "TPOT", {name(each): each.records.gap for each in results})
    draw_over_time(next(axes), results)
    draw_rates(next(axes), results)
    draw_hits(next(axes), results)
    draw_busy(next(axes), results)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def name(result: ReplayResult) -> str:
    return result.name or "replay"


def draw_distribution(axes: Axes, quantity: str, columns: Mapping[str, Column]) -> None:
    for label, column in columns.items():
        values = np.sort(column[~np.isnan(column)])
        axes.plot(values, np.arange(1, len(values) + 1) / max(1, len(values)), label=label)
    axes.set(xlabel=f"{quantity}, s", ylabel="share of answers", ylim=(0, 1))
    axes.set_xscale(scale_for(list(columns.values())))
    axes.grid(alpha=0.3)
    axes.legend()


def scale_for(columns: Sequence[Column]) -> str:
    values = np.concatenate(columns)
    values = values[values > 0]
    return "log" if len(values) and values.max() > WIDE * values.min() else "linear"


def draw_over_time(axes: Axes, results: Sequence[ReplayResult]) -> None:
    for result in results:
        axes.plot(result.records.sent_at, result.records.first, ".", ms=3, label=name(result))
    axes.set(xlabel="sent after, s", ylabel="TTFT, s")
    axes.set_yscale(scale_for([each.records.first for each in results]))
    axes.grid(alpha=0.3)


def draw_rates(axes: Axes, results: Sequence[ReplayResult]) -> None:
    for result in results:
        records = result.records
        ended = (records.sent_at + records.total)[records.is_done]
        edges = np.linspace(0, result.figures.seconds, NUM_BINS + 1)
        width = edges[1] - edges[0]
        sent, answered = (np.histogram(x, edges)[0] / width for x in (records.sent_at, ended))
        (line,) = axes.step(edges[:-1], answered, where="post", label=f"{name(result)}: answered")
        axes.step(edges[:-1], sent, where="post", ls=":", color=line.get_color(), label="sent")
    axes.set(xlabel="time, s", ylabel="requests/s")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def draw_hits(axes: Axes, results: Sequence[ReplayResult]) -> None:
    bars = {name(each): each.hit_rate for each in results}
    pooled = results[0].pooled
    bars |= {"pooled": pooled.bounded, "endless": pooled.unbounded}
    known = {label: share for label, share in bars.items() if share is not None}
    axes.bar(list(known), [100 * share for share in known.values()])
    axes.set(ylabel="prompt tokens from cache, %", ylim=(0, 100))


def draw_busy(axes: Axes, results: Sequence[ReplayResult]) -> None:
    """Workers side by side, each with a bar for each run."""
    for number, result in enumerate(results):
        told = [each for each in result.work if each.busy_seconds is not None]
        places = np.arange(len(told)) + 0.8 * number / len(results)
        shares = [100 * (each.busy_seconds or 0) / result.figures.seconds for each in told]
        axes.bar(places, shares, 0.8 / len(results), align="edge", label=name(result))
        if number == 0:
            labels = [each.worker_id for each in told] if len(told) <= MOST_LABELS else ()
            axes.set_xticks(places[: len(labels)] + 0.4, labels, rotation=90)
    axes.set(xlabel="workers", ylabel="busy, % of the time")
    if not any(each.busy_seconds is not None for result in results for each in result.work):
        axes.text(0.5, 0.5, "the workers do not tell", ha="center", transform=axes.transAxes)
