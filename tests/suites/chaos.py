"""Faults at random moments, with real engines: right tokens or a clear error, and nothing left.

    python -m tests.suites.chaos [--runs 24] [--seed N] [--only RUN ...]

A third of the runs is done to workers inside a host, over shared memory, the rest to workers
joined by a link, over TCP. `--only` repeats runs of a seed. Needs root.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from tests.suites.bounds import TooLong, bounded
from tests.suites.chaos_plan import Place, plan
from tests.suites.chaos_run import Experiment
from tests.suites.levels import abandoned_segments
from tests.suites.logs import log_folder
from tests.suites.network import NetworkMissing, check_machine, joined_namespaces
from tests.suites.references import plain_answers
from tests.suites.scene import HostScene, LinkScene, Scene
from tests.system.prompts import Prompt, random_ids

DTYPE = "float32"
LENGTHS = (130, 300, 513, 700, 900, 1200)
ANSWER_TOKENS = 24
MAX_MINUTES = 45.0


def main() -> int:
    options = parse()
    say(f"seed {options.seed}")
    try:
        with bounded(MAX_MINUTES), log_folder(options.logs) as folder:
            problems = list(run_all(options, folder))
    except (NetworkMissing, TooLong) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        return 130
    for each in problems:
        say(f"problem: {each}")
    say(f"seed {options.seed}: {len(problems)} problems")
    return 1 if problems else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--runs", type=int, default=24, help="(default: 24)")
    parser.add_argument("--only", type=int, nargs="+", metavar="RUN", help="of these numbers")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--logs", type=Path, help="a folder for logs that stays")
    return parser.parse_args()


def run_all(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Every problem, as one line."""
    chosen = plan(options.runs)
    numbers = options.only or chosen
    if unknown := set(numbers) - chosen.keys():
        yield f"there is no run {min(unknown)} of {options.runs}"
        return
    if any(chosen[number][0] is Place.LINK for number in numbers):
        check_machine()
    model = ensure_model(DEFAULT_MODEL, models_dir(os.environ), say)
    prompts = [
        Prompt(f"chaos-{length}", random_ids(f"chaos-{length}", length), ANSWER_TOKENS)
        for length in LENGTHS
    ]
    say("asking a plain engine for the right answers")
    answers = plain_answers(model, DTYPE, prompts, folder)
    right = {name: answer.ids for name, answer in answers.items()}
    before = abandoned_segments()
    for place in Place:
        if part := {n: chosen[n][1] for n in numbers if chosen[n][0] is place}:
            say(f"starting a fleet: {place}")
            with opened(place, folder / place.name, model) as scene:
                experiment = Experiment(scene, prompts, right)
                for number, fault in part.items():
                    run = experiment.run(number, fault, random.Random(f"{options.seed} {number}"))
                    say(f"{run}")
                    yield from (f"run {number}, {fault.name}: {each}" for each in run.problems)
    if left := abandoned_segments() - before:
        yield f"shared memory is left: {sorted(left)}"


@contextmanager
def opened(place: Place, folder: Path, model: Path) -> Iterator[Scene]:
    """A fleet of its kind, for this thread."""
    with ExitStack() as stack:
        if place is Place.HOST:
            yield stack.enter_context(closing(HostScene(folder, model, DTYPE)))
            return
        link = stack.enter_context(joined_namespaces())
        link.near.enter()
        yield stack.enter_context(closing(LinkScene(folder, model, DTYPE, link)))


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
