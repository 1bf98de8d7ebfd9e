"""How long the router decides in a big fleet, and what its index takes.

    python -m tests.suites.big_fleet [--workers 1000] [--blocks 10000000] [--prompt-blocks 8000]

The index, the table of workers and the dispatcher are a gateway's own; only the workers are not
there. A decision is all from a request with its block keys to its placement: hits of both
profiles, the forecast of both ways, the queue, and what is expected of it afterwards. Garbage is
collected as in a gateway.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fleet.block_news import Batch, Removed, Snapshot, Stored, decode_batch, encode
from fleet.block_replica import BlockReplica
from fleet.block_table import BlockTable
from fleet.prefix_index import PrefixIndex
from fleet.tier import BlockKeys, Tier
from gateway import garbage
from gateway.request import Request
from gateway.routing.booked import Booked
from gateway.routing.dispatcher import Dispatcher
from gateway.routing.fleet_table import FleetTable
from gateway.routing.prompt_hits import PromptHits
from gateway.routing.router import Router
from tests.gateway.builders import make_worker

KV_TOKENS = 1 << 24
# Of the workers, so many hold all of the popular prompt, and so many more its first quarter.
WHOLE_SHARE, QUARTER_SHARE = 0.1, 0.3
NUM_FRESH = 200
NUM_EVENTS = 400_000
MESSAGES = (1000, 64, 8)
MAX_P99_MS, MAX_BYTES, MIN_EVENTS = 2.0, 64, 200_000

Prompts = Callable[[int], BlockKeys]


class BigFleet:
    """Each of the workers holds as many blocks, which are its own but for the popular prompt's."""

    def __init__(self, num_workers: int, num_blocks: int, prompt_blocks: int) -> None:
        self.dice = np.random.default_rng(1)
        self.popular = self.fresh_keys(prompt_blocks)
        self.replica, self.table = BlockReplica(), FleetTable()
        for number in range(num_workers):
            worker = f"w{number}/1"
            own = self.fresh_keys(num_blocks // num_workers)
            place = self.dice.random()
            if place < WHOLE_SHARE:
                own[:prompt_blocks] = self.popular[: len(own)]
            elif place < WHOLE_SHARE + QUARTER_SHARE:
                quarter = prompt_blocks // 4
                own[:quarter] = self.popular[:quarter]
            self.replica.meet(worker)
            self.replica.learn(Snapshot(worker, 1, {Tier.DEVICE: own.tobytes()}))
            is_prefill = number % 2 == 0
            known = make_worker(
                worker, can_prefill=is_prefill, can_decode=not is_prefill, kv_tokens=KV_TOKENS
            )
            self.table.put(known, is_usable=True)
        hits = PromptHits(PrefixIndex(self.replica), self.table)
        self.dispatcher = Dispatcher(self.table, Router(self.table), hits)
        self._num_decided = 0

    def fresh_keys(self, number: int) -> BlockKeys:
        return self.dice.integers(1, 2**63, number, dtype=np.uint64)

    def decide(self, keys: BlockKeys) -> float:
        """One decision, in seconds."""
        (size,) = self.table.block_sizes()
        self._num_decided += 1
        now, name = float(self._num_decided), f"r{self._num_decided}"
        request = Request(name, len(keys) * size, True, block_keys={size: keys}, max_tokens=100)
        begin = time.perf_counter()
        assert self.dispatcher.add(request, now)
        ((_, placement),) = self.dispatcher.ready(now)
        seconds = time.perf_counter() - begin
        for facts in filter(None, (placement.prefill, placement.decode)):
            self.table.book(facts.key, Booked(), now)
        self.dispatcher.settle(name)
        return seconds


@dataclass(frozen=True, slots=True)
class Row:
    """Of one kind of prompts."""

    name: str
    seconds: Sequence[float]

    def line(self) -> str:
        p50, p90, p99 = 1e3 * np.percentile(self.seconds, (50, 90, 99))
        most = 1e3 * max(self.seconds)
        return f"| {self.name} | {p50:.2f} | {p90:.2f} | {p99:.2f} | {most:.2f} |"

    def is_good(self) -> bool:
        return bool(1e3 * np.percentile(self.seconds, 99) < MAX_P99_MS)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.big_fleet", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=10_000_000, help="of all workers")
    parser.add_argument("--prompt-blocks", type=int, default=8000, help="of each prompt")
    parser.add_argument("--decisions", type=int, default=2000, help="of each kind")
    given = parser.parse_args(words)
    BlockTable.warm_up()
    say(f"filling the index: {given.workers} workers, {given.blocks:,} blocks")
    fleet = BigFleet(given.workers, given.blocks, given.prompt_blocks)
    garbage.settle()
    is_good = tell_memory(fleet.replica.table)
    is_good &= tell_decisions(fleet, given.decisions, given.prompt_blocks)
    is_good &= tell_rates(fleet)
    return 0 if is_good else 1


def tell_memory(table: BlockTable) -> bool:
    each = table.num_bytes / table.num_blocks
    say(
        f"\n{table.num_entries:,} blocks in caches, {table.num_blocks:,} different ones: {each:.1f}"
    )
    say("bytes of memory for each of these")
    return each < MAX_BYTES


def tell_decisions(fleet: BigFleet, number: int, prompt_blocks: int) -> bool:
    say(f"\n| prompts of {prompt_blocks} blocks | p50 ms | p90 | p99 | most |")
    say("|---|---|---|---|---|")
    is_good = True
    for name, prompts in kinds(fleet, prompt_blocks):
        for warm_up in range(20):
            fleet.decide(prompts(warm_up))
        row = Row(name, [fleet.decide(prompts(each)) for each in range(number)])
        say(row.line())
        is_good &= row.is_good()
    return is_good


def kinds(fleet: BigFleet, prompt_blocks: int) -> Iterator[tuple[str, Prompts]]:
    fresh = [fleet.fresh_keys(prompt_blocks) for _ in range(NUM_FRESH)]
    yield "that nobody has seen", lambda number: fresh[number % NUM_FRESH]
    held = [
        fleet.replica.table.held(worker, Tier.DEVICE)[:prompt_blocks]
        for worker in range(min(NUM_FRESH, len(fleet.table.keys)))
    ]
    yield "that one worker holds", lambda number: held[number % len(held)]

    def partly(number: int) -> BlockKeys:
        keys = fresh[number % NUM_FRESH].copy()
        shared = number * 37 % prompt_blocks
        keys[:shared] = fleet.popular[:shared]
        return keys

    yield "that hundreds hold to somewhere", partly
    yield "that hundreds hold, always the same", lambda _: fleet.popular


def tell_rates(fleet: BigFleet) -> bool:
    """Of messages as the stream brings them: their reading is in it."""
    say("\n| blocks in a message | block events a second |\n|---|---|")
    number = 1
    is_good = True
    for size in MESSAGES:
        messages = []
        for _ in range(NUM_EVENTS // size // 2):
            told = fleet.fresh_keys(size).tobytes()
            for news in (Stored(Tier.DEVICE, told), Removed(Tier.DEVICE, told)):
                number += 1
                messages.append(encode(Batch("w1/1", number, (news,))))
        begin = time.perf_counter()
        for message in messages:
            fleet.replica.hear(decode_batch(message))
        rate = len(messages) * size / (time.perf_counter() - begin)
        say(f"| {size} | {rate:,.0f} |")
        is_good &= rate > MIN_EVENTS
    return is_good


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
