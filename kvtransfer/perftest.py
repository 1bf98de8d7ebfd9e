"""`python -m kvtransfer.perftest`: how fast KV moves between two processes of this machine.

Each process has a core of its own, if there are two. `ucx_perftest` is UCX's own measurement
with the same transports, shown where libucx brings it; it spins while it waits, ours sleeps.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from statistics import median

from kvtransfer.errors import TransportUnavailable
from kvtransfer.perftest_messages import Messenger, serve_messages
from kvtransfer.perftest_prompts import PromptLoader, serve_prompts
from kvtransfer.perftest_reference import Reference
from kvtransfer.ucx import UcxTransport
from proto.layout import KvLayout

JOIN_SECONDS = 10.0
LATENCY_SIZES = (64, 4096)
BANDWIDTH_SIZES = (4096, 65536, 1 << 20)
NUM_PROMPTS = 20
# SmolLM2-135M in bf16, as vLLM's CPU backend holds it.
BLOCK_TOKENS, NUM_HEADS, CONTENT_SIZE, KEY_SIZE, DTYPE = 128, 3, 128, 64, "bfloat16"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    try:
        UcxTransport().close()
    except TransportUnavailable as error:
        sys.exit(str(error))
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores[:1])
    reference = None if options.no_reference else Reference(cores, options.seconds)
    with_other_process(
        serve_messages, (cores[-1],), lambda pipe: report_messages(pipe, options, reference)
    )
    layout = KvLayout(BLOCK_TOKENS, NUM_HEADS, CONTENT_SIZE, KEY_SIZE, DTYPE, (options.layers,))
    with_other_process(
        serve_prompts,
        (cores[-1], layout, options.tokens),
        lambda pipe: report_prompts(pipe, layout, options.tokens),
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m kvtransfer.perftest", description=__doc__)
    parser.add_argument("--size-mib", type=float, default=4.0, help="the largest message")
    parser.add_argument("--seconds", type=float, default=0.5, help="for each measurement")
    parser.add_argument("--tokens", type=int, default=2048, help="of the prompt")
    parser.add_argument("--layers", type=int, default=30, help="of the model")
    parser.add_argument("--no-reference", action="store_true", help="without ucx_perftest")
    return parser.parse_args(arguments)


def with_other_process(
    serve: Callable[..., None], settings: tuple[object, ...], measure: Callable[[Connection], None]
) -> None:
    """Runs `serve(pipe, *settings)` in another process while `measure(pipe)` runs in this one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs, *settings), daemon=True)
    process.start()
    theirs.close()
    try:
        measure(ours)
    finally:
        ours.close()
        process.join(JOIN_SECONDS)
        process.kill()


def report_messages(
    pipe: Connection, options: argparse.Namespace, reference: Reference | None
) -> None:
    largest = int(options.size_mib * (1 << 20))
    messenger = Messenger(pipe)
    try:
        write(f"UCX transports: {messenger.transport.transports}")
        write(f"{'':26}{'ours':>12}{'ucx_perftest':>16}")
        for num_bytes in LATENCY_SIZES:
            ours = messenger.latency_seconds(num_bytes, options.seconds)
            theirs = reference.latency_seconds(num_bytes) if reference else None
            row("latency", num_bytes, _microseconds(ours), _microseconds(theirs))
        for num_bytes in sorted({*BANDWIDTH_SIZES, largest}):
            ours = messenger.bytes_per_second(num_bytes, options.seconds)
            theirs = reference.bytes_per_second(num_bytes) if reference else None
            row("bandwidth", num_bytes, _gigabytes(ours), _gigabytes(theirs))
    finally:
        messenger.close()


def report_prompts(pipe: Connection, layout: KvLayout, num_tokens: int) -> None:
    loader = PromptLoader(pipe, layout, num_tokens)
    try:
        seconds = [loader.load_seconds() for _ in range(NUM_PROMPTS)][2:]
    finally:
        loader.close()
    num_bytes = layout.num_blocks(num_tokens) * layout.block_size * layout.bytes_per_token
    write(
        f"\nprompt of {num_tokens} tokens, {layout.num_layers} layers, {num_bytes / 1e6:.1f} MB, "
        f"from cache to cache: {median(seconds) * 1e3:.1f} ms, "
        f"{num_bytes / median(seconds) / 1e9:.2f} GB/s "
        f"(best {min(seconds) * 1e3:.1f} ms, worst {max(seconds) * 1e3:.1f} ms)"
    )


def row(name: str, num_bytes: int, ours: str, theirs: str) -> None:
    write(f"{name:<12}{_size(num_bytes):>14}{ours:>12}{theirs:>16}")


def write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _microseconds(seconds: float | None) -> str:
    return f"{seconds * 1e6:.1f} us" if seconds else "-"


def _gigabytes(bytes_per_second: float | None) -> str:
    return f"{bytes_per_second / 1e9:.2f} GB/s" if bytes_per_second else "-"


def _size(num_bytes: int) -> str:
    for unit, shift in (("MiB", 20), ("KiB", 10)):
        if num_bytes >= 1 << shift:
            return f"{num_bytes / (1 << shift):g} {unit}"
    return f"{num_bytes} B"


if __name__ == "__main__":
    main()
