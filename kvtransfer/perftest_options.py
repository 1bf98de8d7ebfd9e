"""The performance test's command line."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError
from dataclasses import dataclass

from kvtransfer.perftest_driver import Settings
from kvtransfer.perftest_reference import has_reference
from kvtransfer.perftest_table import size_of

MAX_PORT = 65535
SIZES = "4k,16k,64k,256k,1m,4m,16m,64m"
DEFAULTS = Settings()

DESCRIPTION = """\
How fast KV moves between two processes, beside UCX's own test over the same transport.

  python -m kvtransfer.perftest                     two processes of this machine
  python -m kvtransfer.perftest --transport tcp     the same over TCP
  python -m kvtransfer.perftest --serve 7000        on one host, and on the other:
  python -m kvtransfer.perftest --connect HOST:7000

For each size: latency (half of the time there and back), bandwidth from this process (A) to
the other (B), from B to A, and both ways at once, and the CPU time (user and system, of both
processes) that a gigabyte one way costs.

"reference" is ucx_perftest, which UCX's wheel brings, with UCX's own settings, and "ratio" is
ours by its: above 1 is more bandwidth, or a longer time. The reference spins, so it takes two
whole cores all the time; ours spins for 50 us after something has moved, then sleeps, as a
transfer thread does. Both use one buffer a direction. They are measured by turns, and the
medians are shown. A link to another host notices a dead peer by UCX's error handling, which
rules out UCX's fastest way over TCP; the reference is then run with it, too (-e).

On one machine each process is pinned to a core of its own, and at the end a whole prompt is
moved from one paged cache to the other."""


@dataclass(frozen=True, slots=True)
class Options:
    """`serve` and `connect` are an address and a port; a prompt of 0 tokens is none."""

    settings: Settings
    sizes: tuple[int, ...]
    tokens: int
    layers: int
    as_json: bool
    serve: tuple[str, int] | None
    connect: tuple[str, int] | None


def parse(arguments: list[str] | None) -> Options:
    given = _parser().parse_args(arguments)
    settings = Settings(
        seconds=given.seconds,
        rounds=given.rounds,
        window=given.window,
        tls=given.transport,
        has_reference=has_reference() and not given.no_reference,
    )
    return Options(
        settings,
        given.sizes,
        given.tokens,
        given.layers,
        given.json,
        given.serve,
        given.connect,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m kvtransfer.perftest",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--sizes", type=_sizes, default=SIZES, help=f"of messages (default {SIZES})")
    add("--seconds", type=float, default=DEFAULTS.seconds, help="per measurement (%(default)s)")
    add("--rounds", type=_count, default=DEFAULTS.rounds, help="of each (default %(default)s)")
    add("--window", type=_count, default=DEFAULTS.window, help="messages under way (%(default)s)")
    add(
        "--transport",
        metavar="UCX_TLS",
        help="for ours and the reference, as UCX spells it: sysv, posix, tcp, rc; UCX decides",
    )
    add("--tokens", type=int, default=2048, help="of the prompt, 0 for none (%(default)s)")
    add("--layers", type=_count, default=30, help="of the prompt's model (%(default)s)")
    add("--no-reference", action="store_true", help="without ucx_perftest")
    add("--json", action="store_true", help="print JSON, in bytes and seconds")
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--serve",
        type=_endpoint,
        metavar="[ADDRESS:]PORT",
        help="be B for one run; whoever reaches the port can use it, so on trusted networks only",
    )
    where.add_argument("--connect", type=_endpoint, metavar="HOST:PORT", help="B serves there")
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(size_of(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r}: give sizes like {SIZES}") from error


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text!r}: give a whole number from 1 on")
    return int(text)


def _endpoint(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > MAX_PORT:
        raise ArgumentTypeError(f"{text!r}: a port is a number up to {MAX_PORT}")
    return address, int(port)
