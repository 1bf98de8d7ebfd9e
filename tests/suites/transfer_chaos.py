"""Faults at random moments to hand-offs without engines: right bytes or recomputation, in time,
and nothing left.

    python -m tests.suites.transfer_chaos [--runs 200] [--seed N] [--only RUN ...] [--fault NAME]

Real transfer threads in three processes over UCX: shared memory, TCP, and TCP over a link that is
cut and slowed, which needs root. `--only` and `--fault` repeat runs of a seed.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from tests.suites.bounds import TooLong, bounded
from tests.suites.network import NetworkMissing, joined_namespaces
from tests.suites.transfer_part import WorkerLost
from tests.suites.transfer_plan import plan
from tests.suites.transfer_run import Experiment, Run
from tests.suites.transfer_scene import Place, TransferScene

MAX_MINUTES = 30.0
COLUMNS = ("completed", "failed", "cancelled", "lost")


def main() -> int:
    options = parse()
    say(f"seed {options.seed}")
    runs: list[Run] = []
    problems: list[str] = []
    try:
        with bounded(MAX_MINUTES), tempfile.TemporaryDirectory(prefix="baton-suite-") as folder:
            for run in run_all(options, Path(folder)):
                runs.append(run)
                problems += [f"run {run.number}, {run.fault}: {each}" for each in run.problems]
                say("\n  problem: ".join([str(run), *run.problems]))
    except (NetworkMissing, TooLong, WorkerLost) as error:
        problems.append(f"after {len(runs)} runs: {error}")
    except KeyboardInterrupt:
        return 130
    say("\n".join(["", *table(runs), "", *problems]))
    say(f"seed {options.seed}: {len(runs)} runs, {len(problems)} problems")
    return 1 if problems else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.transfer_chaos")
    parser.description = __doc__
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=200, help="(default: 200)")
    parser.add_argument("--only", type=int, nargs="+", metavar="RUN", help="of these numbers")
    parser.add_argument("--fault", help="of faults whose name contains this")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    places = [place.name.lower() for place in Place]
    parser.add_argument("--place", nargs="+", choices=places, default=places)
    return parser.parse_args()


def run_all(options: argparse.Namespace, folder: Path) -> Iterator[Run]:
    """Place by place. Raises NetworkMissing and WorkerLost."""
    places = tuple(place for place in Place if place.name.lower() in options.place)
    chosen = plan(options.runs, places)
    for place in places:
        part = {
            number: fault
            for number, (where, fault) in chosen.items()
            if where is place
            and number in (options.only or chosen)
            and (options.fault or "") in fault.name
        }
        if not part:
            continue
        say(f"starting workers: {place}")
        with opened(place, folder / place.name) as scene:
            experiment = Experiment(scene)
            for number, fault in part.items():
                yield experiment.run(number, fault, random.Random(f"{options.seed} {number}"))


@contextmanager
def opened(place: Place, folder: Path) -> Iterator[TransferScene]:
    with ExitStack() as stack:
        link = stack.enter_context(joined_namespaces()) if place is Place.LINK else None
        yield stack.enter_context(closing(TransferScene(folder, place, link)))


def table(runs: Sequence[Run]) -> Iterator[str]:
    """By fault; "failed" is what the engine computes again, and "lost" what a receiver that was
    killed had waited for.
    """
    yield f"{'fault':<32}{'runs':>6}" + "".join(f"{name:>12}" for name in COLUMNS) + "  longest"
    for name in dict.fromkeys(run.fault for run in runs):
        part = [run for run in runs if run.fault == name]
        counts: Counter[str] = Counter()
        for run in part:
            counts.update(run.counts)
        numbers = "".join(f"{counts[column]:>12}" for column in COLUMNS)
        longest = max(run.longest_seconds for run in part)
        yield f"{name:<32}{len(part):>6}{numbers}{longest:>7.1f} s"


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
