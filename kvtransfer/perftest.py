"""`python -m kvtransfer.perftest`: how fast KV moves between two processes; see `--help`."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Client, Connection, Listener

from kvtransfer.errors import TransportUnavailable
from kvtransfer.perftest_driver import Driver, Settings
from kvtransfer.perftest_options import Options, parse
from kvtransfer.perftest_peer import serve
from kvtransfer.perftest_prompts import PromptLoader, serve_prompts
from kvtransfer.perftest_table import HEADER, Prompt, Results, line
from kvtransfer.ucx import UcxTransport
from proto.layout import KvLayout

JOIN_SECONDS = 10.0
LOOPBACK = "127.0.0.1"
NUM_PROMPTS, NUM_FIRST_PROMPTS = 20, 2
# SmolLM2-135M in bf16, as vLLM's CPU backend holds it.
BLOCK_TOKENS, NUM_HEADS, CONTENT_SIZE, KEY_SIZE, DTYPE = 128, 3, 128, 64, "bfloat16"


def main(arguments: list[str] | None = None) -> None:
    options = parse(arguments)
    os.environ.setdefault("UCX_LOG_FILE", "stderr")  # the results are on standard output
    try:
        if options.serve:
            serve_once(*options.serve)
        elif options.connect:
            measure_far(options, *options.connect)
        else:
            measure_here(options)
    except (TransportUnavailable, OSError, EOFError) as error:
        sys.exit(f"error: {error}" if str(error) else "error: the other process has gone")


def serve_once(address: str, port: int) -> None:
    """Waits for one `--connect`, and does what it is asked to."""
    with Listener((address, port)) as listener:
        write(f"waiting on port {listener.address[1]}")
        with listener.accept() as pipe:
            peer: tuple[str, int] = listener.last_accepted  # type: ignore[assignment]
            serve(pipe, peer[0])


def measure_far(options: Options, host: str, port: int) -> None:
    results = Results()
    try:
        client = Client((host, port))
    except ConnectionError as error:
        reason = f"nobody serves at {host}:{port}: start `--serve {port}` there"
        raise TransportUnavailable(reason) from error
    with client as pipe:
        measure_messages(pipe, host, options, options.settings, results)
    report(options, results)


def measure_here(options: Options) -> None:
    """Each process has a core of its own, if there are two."""
    settings = {"TLS": options.settings.tls} if options.settings.tls else {}
    try:
        UcxTransport(settings).close()  # says what is missing
    except TransportUnavailable as error:
        way_out = f" (--transport {options.settings.tls})" if settings else ""
        raise TransportUnavailable(f"{error}{way_out}") from error
    cores = sorted(os.sched_getaffinity(0))
    pinned = replace(options.settings, cores=(cores[0], cores[-1]))
    results = Results()
    with_other_process(
        partial(serve, far_host=LOOPBACK),
        lambda pipe: measure_messages(pipe, LOOPBACK, options, pinned, results),
    )
    if options.tokens:
        layout = KvLayout(BLOCK_TOKENS, NUM_HEADS, CONTENT_SIZE, KEY_SIZE, DTYPE, (options.layers,))
        with_other_process(
            partial(serve_prompts, core=cores[-1], layout=layout, num_tokens=options.tokens),
            lambda pipe: measure_prompts(pipe, layout, options.tokens, results),
        )
    report(options, results)


def measure_messages(
    pipe: Connection, host: str, options: Options, settings: Settings, results: Results
) -> None:
    with closing(Driver(pipe, host, settings)) as driver:
        results.lanes = driver.lanes
        show = not options.as_json
        if show:
            write(f"transports: {' '.join(results.lanes)}\n{HEADER}")
        for num_bytes in options.sizes:
            results.rows.append(driver.row(num_bytes))
            if show:
                write(line(results.rows[-1]))


def measure_prompts(pipe: Connection, layout: KvLayout, num_tokens: int, results: Results) -> None:
    with closing(PromptLoader(pipe, layout, num_tokens)) as loader:
        seconds = [loader.load_seconds() for _ in range(NUM_FIRST_PROMPTS + NUM_PROMPTS)]
    num_bytes = layout.num_blocks(num_tokens) * layout.block_size * layout.bytes_per_token
    results.prompt = Prompt(num_tokens, layout.num_layers, num_bytes, seconds[NUM_FIRST_PROMPTS:])


def report(options: Options, results: Results) -> None:
    """What has not been said while measuring."""
    if options.as_json:
        write(results.to_json())
    elif results.prompt:
        write(f"\n{results.prompt}")


def with_other_process(
    run: Callable[[Connection], None], measure: Callable[[Connection], None]
) -> None:
    """Runs `run(pipe)` in another process while `measure(pipe)` runs in this one."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=run, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        measure(ours)
    finally:
        ours.close()
        process.join(JOIN_SECONDS)
        process.kill()


def write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
