"""More long prompts than decode caches can hold: room is promised before a prompt is computed.

    python -m tests.suites.credits [--requests 40] [--blocks 40] [--seed N]

A fleet of its own with real engines, one prefill and two decode workers with small caches. Waves
of prompts come at once: many short ones; 1,000 to 2,000 tokens with a limit to their answers, from
one gateway and from two that know nothing of each other; and without a limit. Fails if a request
is not answered in full, a running one was preempted, a load or a send has failed, a prompt came
to its decode worker otherwise than by hand-off, or a token of a prompt was computed twice.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread

import httpx
import msgspec

from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from tests.suites.bounds import TooLong, bounded
from tests.suites.crowd import PATIENCE_SECONDS, PROGRESS_SECONDS
from tests.suites.gateway import Gateway
from tests.suites.levels import abandoned_segments
from tests.suites.logs import log_folder
from tests.suites.outcome import Outcome, ask
from tests.suites.overload import Moment, Result, Totals, Wave, table, waves
from tests.suites.wide_fleet import WideFleet
from tests.suites.work_done import Worker, WorkReport
from tests.system.processes import marked
from tests.system.prompts import Prompt

DTYPE = "bfloat16"
GATEWAYS = ("gateway-0", "gateway-1")
HANDOFFS = ("moved", "local", "revoked", "refused", "failed")
# Prompt and answer together, of the longest.
MAX_MODEL_LEN = 2304
SAMPLE_SECONDS = 1.0
MAX_MINUTES = 20.0


def main() -> int:
    options = parse()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    results: list[Result] = []
    problems: list[str] = []
    segments_before = abandoned_segments()
    try:
        with bounded(MAX_MINUTES), log_folder(options.logs) as folder:
            problems.extend(run(options, folder, results))
    except TooLong as error:
        problems.append(str(error))
    except KeyboardInterrupt:
        problems.append("interrupted")
    if left := abandoned_segments() - segments_before:
        problems.append(f"shared memory is left: {sorted(left)}")
    options.json.parent.mkdir(parents=True, exist_ok=True)
    found = {"seed": options.seed, "waves": results, "problems": problems}
    options.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    if results:
        sys.stdout.write(table(results))
    sys.stdout.write("".join(f"problem: {each}\n" for each in problems) or "no problem\n")
    return 1 if problems else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.credits", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--requests", type=int, default=40, help="in a wave (default: 40)")
    parser.add_argument("--only", default="", metavar="WORDS", help="waves whose name has them")
    parser.add_argument(
        "--blocks", type=int, default=40, help="of 128 tokens in a decode cache (default: 40)"
    )
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--json", type=Path, default=Path(".baton/credits.json"), help="where figures go"
    )
    parser.add_argument("--logs", type=Path, help="a folder for logs that stays")
    return parser.parse_args()


def run(options: argparse.Namespace, folder: Path, results: list[Result]) -> Iterator[str]:
    """Every problem, as one line."""
    model = ensure_model(DEFAULT_MODEL, models_dir(os.environ), tell)
    tell(f"starting a prefill worker, and two decode workers of {options.blocks} blocks")
    fleet = WideFleet(folder / "fleet", model, DTYPE)
    with closing(fleet):
        common = {"max-model-len": MAX_MODEL_LEN}
        small = {"engine-args": f"--num-gpu-blocks-override {options.blocks}"}
        fleet.start(1, 2, {"prefill": common, "decode": {**common, **small}})
        asked = [wave for wave in waves(options.requests) if options.only in wave.name]
        for longest in dict.fromkeys(wave.longest for wave in asked):
            flags = {"disaggregation": "always", "max-model-len": longest}
            gateways = fleet.start_gateways(GATEWAYS, flags)
            for wave in asked:
                if wave.longest == longest:
                    results.append(send(wave, gateways, options.seed))
                    for problem in results[-1].problems():
                        tell(f"problem: {problem}")
                        yield f"{wave.name}: {problem}"
            fleet.stop(*GATEWAYS)
    if left := marked(fleet.mark):
        yield f"processes are left: {left}"


def send(wave: Wave, gateways: Sequence[Gateway], seed: int) -> Result:
    """All at once; returns when every one has ended."""
    tell(f"{wave.name}: {wave.num_prompts} prompts at once")
    prompts = wave.prompts(seed)
    before = totals(gateways)
    started_at = time.monotonic()
    with watching(gateways) as watch:
        outcomes = ask_all(gateways[: wave.num_gateways], prompts)
    seconds = time.monotonic() - started_at
    errors = Counter(each.error or "it broke off" for each in outcomes if not each.is_whole)
    return Result(
        wave,
        needed=sum(len(prompt.ids) for prompt in prompts),
        answered=sum(
            each.is_whole and len(each.ids) == each.prompt.max_tokens for each in outcomes
        ),
        errors=tuple(f"{count} times: {error}" for error, count in errors.items()),
        seconds=seconds,
        totals=totals(gateways).since(before),
        moments=tuple(watch.moments),
    )


def ask_all(gateways: Sequence[Gateway], prompts: Sequence[Prompt]) -> list[Outcome]:
    """By turns to each gateway."""
    limits = httpx.Limits(max_connections=len(prompts))
    threads = ThreadPoolExecutor(len(prompts))
    with httpx.Client(timeout=PATIENCE_SECONDS, trust_env=False, limits=limits) as http:
        asked = [
            threads.submit(ask, http, gateways[number % len(gateways)], prompt, stream=True)
            for number, prompt in enumerate(prompts)
        ]
        try:
            return [each.result() for each in asked]
        finally:
            # Whoever still waits when this is interrupted ends with the fleet.
            threads.shutdown(wait=False, cancel_futures=True)


def totals(gateways: Sequence[Gateway]) -> Totals:
    """When all is idle."""
    report = WorkReport.settled(gateways[0])
    pages = [gateway.metrics() for gateway in gateways]
    return Totals(
        sum(report.computed.values()),
        report.preemptions,
        report.loads_failed,
        report.sends_failed - report.sends_revoked,
        report.sends_revoked,
        {name: sum(page.handoffs(name) for page in pages) for name in HANDOFFS},
    )


@dataclass(slots=True)
class Watch:
    """Looks at a fleet now and then."""

    gateways: Sequence[Gateway]
    moments: list[Moment] = field(default_factory=list)
    is_over: Event = field(default_factory=Event)

    def run(self) -> None:
        started_at = said_at = time.monotonic()
        while not self.is_over.wait(SAMPLE_SECONDS):
            moment = self._look(time.monotonic() - started_at)
            self.moments.append(moment)
            if time.monotonic() - said_at >= PROGRESS_SECONDS:
                said_at = time.monotonic()
                tell(f"{moment.seconds:.0f} s: {moment.queued} queued, {moment.running} decoding")

    def _look(self, seconds: float) -> Moment:
        workers = WorkReport.take(self.gateways[0]).workers
        decode = [each for each in workers if each.role == "decode"]
        queued = sum(gateway.metrics().value("baton_queue_requests") for gateway in self.gateways)
        return Moment(
            seconds,
            int(queued),
            sum(each.load.num_running for each in decode),
            sum(each.load.num_waiting for each in decode),
            max(map(used_share, decode)),
            max(map(promised_share, decode)),
        )


def used_share(worker: Worker) -> float:
    """Of its cache, but for the one block that vLLM keeps."""
    return worker.load.num_kv_blocks_used / max(1, worker.load.num_kv_blocks - 1)


def promised_share(worker: Worker) -> float:
    room = (worker.load.num_kv_blocks - 1) * (worker.block_size or 0)
    return worker.load.num_reserved_tokens / max(1, room)


@contextmanager
def watching(gateways: Sequence[Gateway]) -> Iterator[Watch]:
    watch = Watch(gateways)
    thread = Thread(target=watch.run)
    thread.start()
    try:
        yield watch
    finally:
        watch.is_over.set()
        thread.join()


def tell(line: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
