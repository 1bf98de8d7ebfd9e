"""`python -m loadtest.replay`: see `--help`."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from loadtest.replay.errors import BadInput, ReplayError
from loadtest.replay.options import Options, parse
from loadtest.replay.plot import save_plot
from loadtest.replay.report import compare, show
from loadtest.replay.result import ReplayResult
from loadtest.replay.run import run_on
from loadtest.replay.traces import load_trace

BAD_INPUT, FAILED, STOPPED = 2, 1, 130


def main(words: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = parse(sys.argv[1:] if words is None else words)
        return replay_all(options)
    except BadInput as error:
        return complain(str(error), BAD_INPUT)
    except (ReplayError, OSError) as error:
        return complain(str(error), FAILED)
    except KeyboardInterrupt:
        return complain("stopped", STOPPED)


def replay_all(options: Options) -> int:
    """Raises ReplayError, OSError. Fails if no request was answered."""
    trace = load_trace(options.trace, options.seed)
    results: list[ReplayResult] = []
    for fleet in options.fleets:
        results.append(run_on(fleet, options, trace))
        sys.stdout.write(show(results[-1]) + "\n")
        sys.stdout.flush()
    if len(results) > 1:
        sys.stdout.write(compare(results))
    if options.json is not None:
        save_json(options.json, options, results)
    if options.plot is not None:
        save_plot(options.plot, title(options), results)
    return 0 if all(result.figures.num_done for result in results) else FAILED


def title(options: Options) -> str:
    shape = options.shape
    return f"{Path(options.trace).name}, lengths / {shape.scale:g}, times / {shape.speed:g}"


def save_json(path: Path, options: Options, results: Sequence[ReplayResult]) -> None:
    content = {
        "trace": Path(options.trace).name,
        "scale": options.shape.scale,
        "speed": options.shape.speed,
        "seed": options.seed,
        "runs": [result.as_json() for result in results],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def complain(text: str, status: int) -> int:
    sys.stderr.write(f"error: {text}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
