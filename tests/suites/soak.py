"""Thousands of hand-offs, many at once: right tokens every time, and nothing piles up.

    python -m tests.suites.soak [--requests 2000] [--at-once 16] [--seed N]

A fleet of its own, one prefill and one decode worker with real engines. Each request's
prompt is one of a few whose answer a plain engine has given, under a salt of its own, so that
its KV moves every time. Fails if a token is wrong, a prompt was computed again, a process has
grown by more than 2 %, or anything is left.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from tests.suites.bounds import TooLong, bounded
from tests.suites.crowd import Tally, ask_all
from tests.suites.gateway import Gateway
from tests.suites.levels import abandoned_segments
from tests.suites.logs import log_folder
from tests.suites.references import plain_answers
from tests.suites.soak_prompts import pool, requests
from tests.suites.soak_report import Checkpoint, problems, table
from tests.system.live_fleet import LiveFleet
from tests.system.prompts import Prompt

DTYPE = "float32"
NUM_PROMPTS = 60
# Of the requests, those before anything is compared.
WARM_SHARE = 0.25
SERVING = ("gateway", "prefill-0", "decode-0")
MAX_MINUTES = 60.0
MAX_EXAMPLES = 10


def main() -> int:
    options = parse()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    try:
        with bounded(MAX_MINUTES), log_folder(options.logs) as folder:
            found = list(run(options, folder))
    except TooLong as error:
        found = [str(error)]
    except KeyboardInterrupt:
        return 130
    sys.stdout.write("".join(f"problem: {each}\n" for each in found) or "no problem\n")
    return 1 if found else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.soak", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=2000, help="(default: 2000)")
    parser.add_argument("--at-once", type=int, default=16, help="(default: 16)")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--logs", type=Path, help="a folder for logs that stays")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path) -> Iterator[str]:
    """Every problem, as one line."""
    model = ensure_model(DEFAULT_MODEL, models_dir(os.environ), tell)
    prompts = pool(options.seed, NUM_PROMPTS)
    tell(f"asking a plain engine for the answers to {len(prompts)} prompts")
    answers = plain_answers(model, DTYPE, prompts, folder)
    right = {name: answer.ids for name, answer in answers.items()}
    segments_before = abandoned_segments()
    tell("starting the fleet")
    with closing(LiveFleet(folder / "fleet", model, "--dtype", DTYPE)) as fleet:
        asked = requests(options.seed, prompts, options.requests)
        tally = Tally(len(asked))
        checkpoints = soak(fleet, legs(asked), right, options.at_once, tally)
        sys.stdout.write(f"{tally}\n{table(checkpoints)}")
        yield from tally.examples[:MAX_EXAMPLES]
        yield from problems(checkpoints)
        lived = fleet.living()
        fleet.interrupt()
        fleet.assert_nothing_left(lived)
    if left := abandoned_segments() - segments_before:
        yield f"shared memory is left: {sorted(left)}"


def legs(asked: Sequence[Prompt]) -> tuple[Sequence[Prompt], ...]:
    """The warm-up and two halves."""
    warm = round(WARM_SHARE * len(asked))
    middle = (warm + len(asked)) // 2
    return asked[:warm], asked[warm:middle], asked[middle:]


def soak(
    fleet: LiveFleet,
    legs: Sequence[Sequence[Prompt]],
    right: dict[str, tuple[int, ...]],
    at_once: int,
    tally: Tally,
) -> list[Checkpoint]:
    """One checkpoint after each leg."""
    gateway = Gateway(fleet.url, fleet.model)
    pids = {name: fleet.pid(name) for name in SERVING}
    checkpoints = []
    for leg in legs:
        ask_all(gateway, leg, right, at_once, tally)
        checkpoints.append(Checkpoint.take(gateway, pids, tally.num_done))
    return checkpoints


def tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
