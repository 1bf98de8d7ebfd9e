"""How long a hand-off takes: prefill, TTFT, and what the transfer adds, by prompt length.

    python -m loadtest.handoff [--url http://127.0.0.1:8000]

Against a running and otherwise idle fleet that hands every prompt off: one of
`baton up --disaggregation always`. Every prompt is new, so that no cache helps.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.endpoint import BadAnswer, Endpoint
from loadtest.hand_off import HandOff, measure, medians
from loadtest.local_run import LocalRun

DEFAULT_URL = "http://127.0.0.1:8000"
LENGTHS = (256, 1024, 2048, 4096)
HEADING = {
    "tokens": "tokens",
    "prefill_ms": "prefill ms",
    "ttft_ms": "TTFT ms",
    "step_ms": "step ms",
    "exposed_ms": "exposed ms",
    "exposed_percent": "of prefill %",
    "tail_ms": "tail ms",
    "moved_mb": "moved MB",
    "load_ms": "load ms",
    "gb_per_s": "GB/s",
}
LEGEND = """\
exposed: TTFT less the prefill and one decode step, so what the transfer adds to a first token.
tail: from the last layer computed to the last byte sent. GB/s: moved over load, and the load
spans the prefill that it overlaps with.
"""


def main() -> int:
    options = parse()
    run = LocalRun.read(options.state)
    endpoint = Endpoint(options.url or (run.url if run else DEFAULT_URL))
    try:
        samples = take_samples(endpoint, options.lengths, options.rounds)
    except (BadAnswer, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    table = {length: medians(found) for length, found in samples.items()}
    is_local = run is not None and run.url == endpoint.url
    idle = run.cpu_percent(options.idle_seconds) if run and is_local else {}
    sys.stdout.write(show(endpoint, options.rounds, table, idle))
    save(options.json, endpoint, options.rounds, table, idle)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtest.handoff", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--url", help="the gateway; that of the local run if not set")
    parser.add_argument("--rounds", type=int, default=5, help="of each length (default: 5)")
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS, metavar="TOKENS")
    parser.add_argument(
        "--idle-seconds", type=float, default=10.0, help="to watch the idle fleet (default: 10)"
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(".baton/run/state.json"),
        help="where `baton up` says which processes it runs (default: .baton/run/state.json)",
    )
    parser.add_argument(
        "--json",
        type=Path,
        default=Path(".baton/handoff.json"),
        help="where the figures go as well (default: .baton/handoff.json)",
    )
    return parser.parse_args()


def take_samples(
    endpoint: Endpoint, lengths: Sequence[int], rounds: int
) -> Mapping[int, Sequence[HandOff]]:
    """Length by length in each round, so that a slow minute strikes all alike.

    Raises BadAnswer, OSError.
    """
    model = endpoint.model()
    # The first hand-off between two workers makes their connection.
    measure(endpoint, model, min(lengths))
    samples: dict[int, list[HandOff]] = {length: [] for length in lengths}
    for number in range(1, rounds + 1):
        for length in lengths:
            sys.stderr.write(f"\rround {number} of {rounds}: {length} tokens   ")
            samples[length].append(measure(endpoint, model, length))
    sys.stderr.write("\r\033[K")
    return samples


def show(
    endpoint: Endpoint,
    rounds: int,
    table: Mapping[int, Mapping[str, float]],
    idle: Mapping[str, float],
) -> str:
    """The table as text."""
    rows = [list(HEADING.values())]
    for length, row in table.items():
        rows.append([str(length), *(f"{row[name]:.{digits(name)}f}" for name in row)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [f"Hand-off at {endpoint.url}, medians of {rounds}"]
    lines += ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in rows]
    lines.append(LEGEND)
    if idle:
        each = ", ".join(f"{name} {percent:.2f}" for name, percent in idle.items())
        lines.append(f"idle, % of a core: {sum(idle.values()):.2f} ({each})\n")
    return "\n".join(lines)


def digits(name: str) -> int:
    return 3 if name == "gb_per_s" else 1


def save(
    path: Path,
    endpoint: Endpoint,
    rounds: int,
    table: Mapping[int, Mapping[str, float]],
    idle: Mapping[str, float],
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "url": endpoint.url,
        "rounds": rounds,
        "hand_off": [{"tokens": length, **row} for length, row in table.items()],
        "idle_percent": dict(idle),
    }
    path.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
