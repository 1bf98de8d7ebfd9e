"""More long prompts at once than the decode workers' caches hold, and what became of them."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from baton.table import render
from tests.system.prompts import Prompt, random_ids

ANSWER_TOKENS = (100, 200)
MOVED = "moved"


@dataclass(frozen=True, slots=True)
class Wave:
    """Requests that are sent at once, by turns to so many gateways. `longest`: of prompt and
    answer together; `is_limited`: clients say how long an answer may be, and otherwise it ends
    where the model does.
    """

    name: str
    num_gateways: int
    num_prompts: int
    prompt_tokens: tuple[int, int]
    longest: int
    is_limited: bool

    def prompts(self, seed: int) -> tuple[Prompt, ...]:
        """Of which no two begin alike. Shorter ones are likelier."""
        dice = random.Random(f"{seed} {self.name}")
        found = []
        for number in range(self.num_prompts):
            name = f"{seed} {self.name} {number}"
            shortest, longest = self.prompt_tokens
            num_tokens = round(dice.triangular(shortest, longest, shortest))
            limit = dice.randint(*ANSWER_TOKENS)
            if not self.is_limited:
                limit = self.longest - num_tokens
            found.append(Prompt(name, random_ids(name, num_tokens), limit))
        return tuple(found)


def waves(num_prompts: int) -> tuple[Wave, ...]:
    """Without a limit, an answer is as long as the model lets it be: 100 to 200 tokens."""
    return (
        # In such short ones, what a last block has beyond them counts most.
        Wave("short, one gateway", 1, 2 * num_prompts, (30, 60), 2304, True),
        Wave("limits, one gateway", 1, num_prompts, (1000, 2000), 2304, True),
        Wave("limits, two gateways", 2, num_prompts, (1000, 2000), 2304, True),
        Wave("no limits, two gateways", 2, num_prompts, (1200, 1300), 1400, False),
    )


@dataclass(frozen=True, slots=True)
class Moment:
    """`queued` in the gateways; `running` and `waiting` in the decode workers; the shares are of
    the cache of the fullest of them.
    """

    seconds: float
    queued: int
    running: int
    waiting: int
    used_share: float
    promised_share: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Of a fleet, since it was started. `taken_back`: hand-offs that a gateway began anew, since
    another one had been promised the room; `sends_failed` are without them.
    """

    computed: int
    preemptions: int
    loads_failed: int
    sends_failed: int
    taken_back: int
    handoffs: Mapping[str, float]

    def since(self, before: Totals) -> Totals:
        return Totals(
            self.computed - before.computed,
            self.preemptions - before.preemptions,
            self.loads_failed - before.loads_failed,
            self.sends_failed - before.sends_failed,
            self.taken_back - before.taken_back,
            {name: number - before.handoffs.get(name, 0) for name, number in self.handoffs.items()},
        )


@dataclass(frozen=True, slots=True)
class Result:
    """`answered`: with as many tokens as were asked for; `errors`: what was said instead."""

    wave: Wave
    needed: int
    answered: int
    errors: tuple[str, ...]
    seconds: float
    totals: Totals
    moments: tuple[Moment, ...]

    @property
    def most_used(self) -> float:
        return max((each.used_share for each in self.moments), default=0.0)

    @property
    def most_queued(self) -> int:
        return max((each.queued for each in self.moments), default=0)

    def problems(self) -> Iterator[str]:
        """What must not be, in words."""
        totals, number = self.totals, self.wave.num_prompts
        yield from self.errors
        if self.answered != number:
            yield f"{self.answered} of {number} requests were answered in full"
        for count, what in (
            (totals.preemptions, "preemptions"),
            (totals.loads_failed, "loads failed"),
            (totals.sends_failed, "sends failed"),
            (totals.taken_back * (self.wave.num_gateways == 1), "hand-offs were taken back"),
            (max(0, totals.computed - self.needed), "prompt tokens were computed twice"),
        ):
            if count:
                yield f"{count} {what}"
        others = {name: count for name, count in totals.handoffs.items() if name != MOVED and count}
        if others or totals.handoffs.get(MOVED) != number:
            yield f"hand-offs of {number}: {dict(totals.handoffs)}"
        if not self.most_queued:
            yield "nothing waited: this was no overload"

    def row(self) -> tuple[str, ...]:
        totals = self.totals
        others = sum(count for name, count in totals.handoffs.items() if name != MOVED)
        return (
            self.wave.name,
            f"{self.answered} of {self.wave.num_prompts}",
            str(len(self.errors)),
            str(totals.preemptions),
            str(totals.loads_failed),
            str(totals.sends_failed),
            str(totals.taken_back),
            f"{totals.handoffs.get(MOVED, 0):.0f}",
            f"{others:.0f}",
            f"{totals.computed:,}",
            f"{self.needed:,}",
            f"{self.most_used:.0%}",
            f"{self.seconds:.0f} s",
        )


HEADING = (
    *("wave", "answered", "errors", "preemptions", "loads failed", "sends failed"),
    *("taken back", "moved", "not moved", "computed", "needed", "most KV in use", "took"),
)
TIMES = 8


def table(results: Sequence[Result]) -> str:
    """A line for each wave, and how its queue went."""
    lines = render(HEADING, [result.row() for result in results])
    for result in results:
        lines += ["", f"{result.wave.name}: over time", *over_time(result.moments)]
    return "\n".join((*lines, ""))


def over_time(moments: Sequence[Moment]) -> list[str]:
    """A few of them, evenly."""
    step = max(1, len(moments) // TIMES)
    heading = ("s", "in the queue", "decoding", "waiting there", "KV in use", "KV promised")
    rows = [
        (
            f"{each.seconds:.0f}",
            str(each.queued),
            str(each.running),
            str(each.waiting),
            f"{each.used_share:.0%}",
            f"{each.promised_share:.0%}",
        )
        for each in moments[::step]
    ]
    return render(heading, rows)
