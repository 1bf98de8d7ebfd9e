"""The command line of a replay."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import urlsplit

from loadtest.replay.check import DEFAULT as DEFAULT_CHECK
from loadtest.replay.check import load_check
from loadtest.replay.errors import BadInput
from loadtest.replay.figures import Slo
from loadtest.replay.plot import check_plot
from loadtest.replay.shape import Shape

HELP = """\
Replays a trace of requests against a fleet, each request when it is due, and tells TTFT, ITL,
goodput under a given SLO, hit rate and load spread.

TRACE is one of
  a .jsonl file   Mooncake: times, lengths, and hashes of 512-token blocks of the prompt
  a .csv file     Azure: TIMESTAMP,ContextTokens,GeneratedTokens; every prompt is fresh
  multi-turn:sessions=50,turns=10,groups=5,system=1024,user=128,answer=128,think=10,rate=1
                  conversations; groups of them share a system prompt, and each turn's prompt
                  holds the answers before it
  agents:requests=1000,prompts=8,system=4096,fresh=3,block=128,output=16,rate=10,skew=1
                  few long system prompts, 1 to `fresh` blocks of each request's own
(what is left out of a list has the value shown).
"""
EXAMPLES = """\
examples:
  # a fleet that runs already; prompts and answers a sixteenth as long, ten times as fast
  python -m loadtest.replay mooncake.jsonl --fleet http://127.0.0.1:8000 --scale 16 --speed 10

  # the first 500 requests, on a simulated fleet of this command's own that is as much faster
  python -m loadtest.replay mooncake.jsonl --requests 500 --scale 16 --speed 10 \\
      --fleet-args "--prefill 4 --decode 4 --sim-speed 10"

  # two fleets under the same load, one table, one picture
  python -m loadtest.replay agents:rate=40 --scale 4 --slo-ttft 0.5 --plot dispatch.svg \\
      --fleet-args "--prefill 4 --decode 4 --sim-args='--block-size 16 --kv-blocks 1000'" \\
      --compare "together=--dispatch together" --compare "in turn=--dispatch prefill-first"
"""


@dataclass(frozen=True, slots=True)
class Fleet:
    """One run: a gateway's URL, or the flags of a simulated fleet."""

    name: str
    url: str | None
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Options:
    trace: str
    fleets: tuple[Fleet, ...]
    model: str | None
    shape: Shape
    seed: int
    vocabulary: range
    timeout_seconds: float
    start_seconds: float
    max_open: int
    num_clients: int
    check: str
    slo: Slo
    pool_blocks: int | None
    block_tokens: int | None
    json: Path | None
    plot: Path | None


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(message)


def parse(words: Sequence[str]) -> Options:
    """Raises BadInput; SystemExit after `--help`."""
    given = parser().parse_args(words)
    if given.check:
        # Where Python finds what `python -m` does.
        sys.path[:0] = [str(Path.cwd())]
        load_check(given.check)
    if given.plot is not None:
        check_plot(given.plot)
    return Options(
        trace=given.trace,
        fleets=fleets(given.fleet, split_words("--fleet-args", given.fleet_args), given.compare),
        model=given.model,
        shape=Shape(given.scale, given.speed, given.requests, given.seconds, given.max_tokens),
        seed=given.seed,
        vocabulary=given.vocabulary,
        timeout_seconds=given.timeout,
        start_seconds=given.start_timeout,
        max_open=given.max_open,
        num_clients=given.clients,
        check=given.check,
        slo=Slo(given.slo_ttft, given.slo_itl),
        pool_blocks=given.pool_blocks,
        block_tokens=given.pool_block_tokens,
        json=given.json,
        plot=given.plot,
    )


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m loadtest.replay",
        description=HELP,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("trace", metavar="TRACE")
    add_fleet(made.add_argument_group("fleet"))
    add_load(made.add_argument_group("load"))
    add_figures(made.add_argument_group("figures"))
    return made


def add_fleet(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--fleet",
        default="sim",
        metavar="sim|URL",
        help="a simulated one, started for the run, or a gateway's URL (default: sim)",
    )
    group.add_argument(
        "--fleet-args",
        default="",
        metavar="WORDS",
        help="more flags of `baton up --sim`; a single word needs the form --fleet-args=--word",
    )
    group.add_argument(
        "--compare",
        action="append",
        default=[],
        metavar="NAME=WORDS",
        help="a run of its own with these flags as well; give it once for each run",
    )
    group.add_argument("--model", metavar="NAME", help="(default: the first that is served)")
    group.add_argument(
        "--start-timeout",
        type=positive,
        default=180.0,
        metavar="S",
        help="for a simulated fleet to be ready, seconds (default: 180)",
    )


def add_load(group: argparse._ArgumentGroup) -> None:
    def number(flag: str, of: type[int] | None, default: float | None, text: str) -> None:
        kind = positive if of is None else count
        shown = "" if default is None else f" (default: {default:g})"
        group.add_argument(flag, type=kind, default=default, metavar="N", help=text + shown)

    number("--scale", None, 1.0, "divide lengths by it; blocks shrink with them")
    number("--speed", None, 1.0, "divide arrival and think times by it")
    number("--requests", int, None, "only so many, the earliest")
    number("--seconds", None, None, "only those that are due so soon after the start")
    number("--max-tokens", int, None, "cut longer prompts (default: what the model takes)")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="other tokens, other draws")
    group.add_argument(
        "--vocabulary",
        type=vocabulary,
        default="1000..40000",
        metavar="A..B",
        help="token ids of prompts, without B (default: 1000..40000)",
    )
    number("--timeout", None, 300.0, "give a request up after so many seconds")
    number("--max-open", int, 10_000, "requests that may be open at once; others wait")
    number("--clients", int, 1, "processes that send")
    group.add_argument(
        "--check",
        nargs="?",
        const=DEFAULT_CHECK,
        default="",
        metavar="MODULE:FUNCTION",
        help="check each answer's tokens: their number, or by a function of prompt, number of "
        "tokens and answer that returns what is wrong",
    )


def add_figures(group: argparse._ArgumentGroup) -> None:
    usual = Slo()
    group.add_argument(
        "--slo-ttft",
        type=positive,
        default=usual.ttft_seconds,
        metavar="S",
        help=f"TTFT of a good answer, seconds (default: {usual.ttft_seconds:g})",
    )
    group.add_argument(
        "--slo-itl",
        type=positive,
        default=usual.itl_seconds,
        metavar="S",
        help=f"its mean time a token after the first, seconds (default: {usual.itl_seconds:g})",
    )
    group.add_argument(
        "--pool-blocks",
        type=count,
        metavar="N",
        help="size of the pooled cache to compare hit rates with "
        "(default: of all workers that compute prompts)",
    )
    group.add_argument(
        "--pool-block-tokens",
        type=count,
        metavar="N",
        help="tokens in each of its blocks (default: as the workers tell, else 16)",
    )
    group.add_argument("--json", type=Path, metavar="FILE", help="save the figures")
    group.add_argument(
        "--plot", type=Path, metavar="FILE", help="save a picture: .svg, .png or .pdf"
    )


def fleets(fleet: str, words: tuple[str, ...], compare: Sequence[str]) -> tuple[Fleet, ...]:
    """Raises BadInput."""
    if fleet != "sim":
        if compare or words:
            raise BadInput("--compare and --fleet-args start simulated fleets: use --fleet sim")
        return (Fleet("", checked_url(fleet), ()),)
    if not compare:
        return (Fleet("", None, words),)
    named = [text.partition("=") for text in compare]
    names = [name for name, _, _ in named]
    if not all(names) or len(set(names)) < len(names):
        raise BadInput("--compare: each run needs a name of its own, NAME=WORDS")
    return tuple(
        Fleet(name, None, words + split_words("--compare", more)) for name, _, more in named
    )


def checked_url(text: str) -> str:
    """Raises BadInput."""
    parts = urlsplit(text)
    try:
        if parts.scheme == "http" and parts.hostname and parts.port != 0:
            return text.rstrip("/").removesuffix("/v1")
    except ValueError as error:
        raise BadInput(f"--fleet {text}: {error}") from error
    raise BadInput(f"--fleet is sim or a URL like http://127.0.0.1:8000, not {text!r}")


def split_words(flag: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise BadInput(f"{flag}: {error}") from error


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be above 0, not {text}")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, not {text}")
    return value


def vocabulary(text: str) -> range:
    first, _, last = text.partition("..")
    found = range(int(first), int(last))
    if first.startswith("-") or len(found) < 2:
        raise argparse.ArgumentTypeError(f"needs two tokens or more, as in 1000..40000: {text}")
    return found
