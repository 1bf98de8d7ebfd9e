"""Thousands of streams at once through one gateway process, over hundreds of simulated workers.

    python -m tests.suites.streams [--streams 5000] [--workers 200] [--rounds 2]

Every answer is checked token by token. The same load comes in rounds; memory is told after each.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import psutil

from loadtest.local_run import LocalRun
from loadtest.replay.errors import ReplayError
from loadtest.replay.figures import Figures
from loadtest.replay.options import Fleet, parse
from loadtest.replay.run import run_on
from loadtest.replay.traces import load_trace

# A token of each stream in so many seconds: one gateway process relays some 10,000 a second.
STEP_SECONDS = 0.6
NUM_TOKENS = 160
# Streams begin so slowly that the first are still open when the last begins.
BEGIN_SECONDS = 60.0
CHECK = "tests.suites.sim_answers:complaint"
SAMPLE_SECONDS = 1.0
MIB = 2**20
GROWTH = 1.02


@dataclass(slots=True)
class Watched:
    """The processes of the fleet, by name; `peak` is in bytes."""

    processes: Mapping[str, psutil.Process]
    peak: dict[str, int] = field(default_factory=dict)

    def memory(self) -> dict[str, int]:
        """Resident, in bytes."""
        return {name: each.memory_info().rss for name, each in self.processes.items()}

    def cpu_seconds(self) -> dict[str, float]:
        times = {name: each.cpu_times() for name, each in self.processes.items()}
        return {name: each.user + each.system for name, each in times.items()}

    @contextmanager
    def sampled(self) -> Iterator[None]:
        """Meanwhile, `peak` is kept."""
        is_over = threading.Event()

        def sample() -> None:
            while not is_over.wait(SAMPLE_SECONDS):
                for name, size in self.memory().items():
                    self.peak[name] = max(size, self.peak.get(name, 0))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.streams", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--streams", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args(words)
    try:
        with tempfile.TemporaryDirectory() as folder, fleet(Path(folder), given.workers) as run:
            return study(run, given.streams, given.rounds)
    except ReplayError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1


@contextmanager
def fleet(folder: Path, num_workers: int) -> Iterator[LocalRun]:
    """A fifth of the workers prefill."""
    profile = folder / "profile.json"
    profile.write_bytes(msgspec.json.encode({"step_seconds": STEP_SECONDS}))
    baton = (sys.executable, "-m", "baton")
    state = ("--state-dir", str(folder / "run"))
    num_prefill = num_workers // 5
    sizes = ("--prefill", str(num_prefill), "--decode", str(num_workers - num_prefill))
    sim = ("--sim", "--sim-profile", str(profile), *sizes, "--port", "0", "--detach")
    subprocess.run([*baton, "up", *sim, *state, "--disaggregation", "always"], check=True)
    try:
        run = LocalRun.read(folder / "run" / "state.json")
        assert run is not None
        yield run
    finally:
        subprocess.run([*baton, "down", *state], check=True)


def study(run: LocalRun, num_streams: int, rounds: int) -> int:
    watched = Watched({name: psutil.Process(pid) for name, pid in run.pids.items()})
    before = watched.memory()
    after: list[dict[str, int]] = []
    is_good = True
    for number in range(rounds):
        cpu = watched.cpu_seconds()
        with watched.sampled():
            figures = load(run.url, num_streams, seed=number)
        after.append(watched.memory())
        spent = {name: now - cpu[name] for name, now in watched.cpu_seconds().items()}
        sys.stdout.write(line_of(number + 1, figures, spent) + "\n")
        is_good &= not figures.errors
    for name, start in before.items():
        sizes = ", ".join(f"{each[name] / MIB:.0f}" for each in after)
        peak = watched.peak[name] / MIB
        sys.stdout.write(
            f"{name}: {start / MIB:.0f} MiB before, {sizes} after each round, {peak:.0f} at most\n"
        )
        is_good &= after[-1][name] <= GROWTH * after[0][name]
    return 0 if is_good else 1


def load(url: str, num_streams: int, seed: int) -> Figures:
    """Raises ReplayError."""
    rate = num_streams / BEGIN_SECONDS
    trace = f"agents:requests={num_streams},prompts=1,system=16,fresh=1,block=48"
    trace += f",output={NUM_TOKENS},rate={rate}"
    options = parse([trace, "--fleet", url, "--check", CHECK, "--seed", str(seed)])
    return run_on(Fleet("streams", url, ()), options, load_trace(trace, seed)).figures


def line_of(number: int, figures: Figures, spent: Mapping[str, float]) -> str:
    num_tokens = figures.num_done * NUM_TOKENS
    cpu = ", ".join(f"{name} {1e6 * each / num_tokens:.0f}" for name, each in spent.items())
    errors = dict(figures.errors) or "no errors, no wrong tokens"
    return (
        f"round {number}: {figures.num_done} of {figures.num_requests} streams, {errors}; "
        f"{figures.output_tokens_per_second:,.0f} tokens/s; CPU µs a token: {cpu}"
    )


if __name__ == "__main__":
    sys.exit(main())
