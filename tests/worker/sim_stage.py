"""Simulated engine cores on a clock that jumps from event to event."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from tests.worker.builders import Clock
from worker.sim.answer import TokenRange, expected_tokens
from worker.sim.core import SimCore, Token
from worker.sim.fabric import SimFabric
from worker.sim.limits import SimLimits
from worker.sim.profile import SimProfile
from worker.sim.request import NextKeys, Task
from worker.sim.timeline import Timeline

ANSWERS = TokenRange(100, 1000)
BLOCK_SIZE = 8
LIMITS = SimLimits(
    num_blocks=32,
    block_size=BLOCK_SIZE,
    max_model_len=160,
    max_running=4,
    max_batch_tokens=32,
    max_chunk_tokens=24,
    max_loads=3,
)
# Of the network that blocks spend a while on.
SLOW_BANDWIDTH = 2e4
PROFILE = SimProfile(
    step_seconds=0.01,
    prefill_token_seconds=0.001,
    attention_seconds=0.0,
    decode_seconds=0.002,
    context_token_seconds=0.0,
    bandwidth=1e6,
    latency_seconds=0.001,
)
BYTES_PER_TOKEN = 100
NUM_LAYERS = 4


def key_maker(block_size: int = BLOCK_SIZE) -> NextKeys:
    """Names of blocks that depend on all tokens before."""
    parent = 0

    def next_keys(tokens: Sequence[int]) -> list[int]:
        nonlocal parent
        keys = []
        for start in range(0, len(tokens), block_size):
            parent = hash((parent, tuple(tokens[start : start + block_size])))
            keys.append(parent)
        return keys

    return next_keys


def ticket_of(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Stage:
    """A prefill worker `p`, a decode worker `d`, and all that they have said: `got`."""

    def __init__(self, limits: SimLimits = LIMITS, profile: SimProfile = PROFILE) -> None:
        self.clock = Clock()
        self.timeline = Timeline(self.clock)
        self.fabric = SimFabric(self.timeline, BYTES_PER_TOKEN, NUM_LAYERS, profile.latency_seconds)
        self.p, self.d = (
            SimCore(name, limits, profile, ANSWERS, self.timeline, self.fabric)
            for name in (b"p", b"d")
        )
        self.limits = limits
        self.got: dict[str, list[int]] = defaultdict(list)
        self.times: dict[str, list[float]] = defaultdict(list)
        self.ended: set[str] = set()
        self.prompts: dict[str, tuple[Sequence[int], int]] = {}
        for core in (self.p, self.d):
            core.on_step = self._note

    def local(self, name: str, prompt: Sequence[int], num_tokens: int) -> None:
        """A request that one worker computes alone: the one that its name begins with."""
        self.prompts[name] = (prompt, num_tokens)
        task = Task(name, prompt, num_tokens, key_maker(self.limits.block_size))
        self.core(name).submit(task)

    def pair(self, number: int, prompt: Sequence[int], num_tokens: int) -> None:
        """Both legs of a hand-off: d-`number` and p-`number`."""
        self.decode_leg(number, prompt, num_tokens)
        self.prefill_leg(number, prompt)

    def decode_leg(self, number: int, prompt: Sequence[int], num_tokens: int) -> None:
        self.prompts[f"d-{number}"] = (prompt, num_tokens)
        keys = key_maker(self.limits.block_size)
        ticket = ticket_of(number)
        self.d.submit(Task(f"d-{number}", prompt, num_tokens, keys, ticket=ticket, source=b"p"))

    def prefill_leg(self, number: int, prompt: Sequence[int]) -> None:
        keys = key_maker(self.limits.block_size)
        self.p.submit(Task(f"p-{number}", prompt, 1, keys, ticket=ticket_of(number)))

    def at(self, when: float, call: Callable[[], object]) -> None:
        def do() -> None:
            call()

        self.timeline.call_at(when, do)

    def run(self, until: float = float("inf")) -> None:
        """All that happens before `until`."""
        while self.timeline.next_at < until:
            self.clock.now = max(self.clock.now, self.timeline.next_at)
            self.timeline.run_next()
            self.check_integrity()
        if until < float("inf"):
            self.clock.now = until

    def abort(self, name: str) -> None:
        self.core(name).abort([name])

    def core(self, name: str) -> SimCore:
        return self.p if name.startswith("p") else self.d

    def wrong(self, names: Iterable[str] | None = None) -> list[str]:
        """Those whose tokens are not, as far as they go, what follows from the prompt."""
        return [name for name in names or self.prompts if self.got[name] != self._expected(name)]

    def check_integrity(self) -> None:
        self.p.check_integrity()
        self.d.check_integrity()
        self.fabric.check_integrity()

    def _expected(self, name: str) -> list[int]:
        prompt, num_tokens = self.prompts[name]
        longest = min(num_tokens, self.limits.max_model_len - len(prompt))
        expected = expected_tokens(prompt, longest, ANSWERS)
        return expected if name in self.ended else expected[: len(self.got[name])]

    def _note(self, tokens: Sequence[Token]) -> None:
        for each in tokens:
            name = each.request.task.engine_id
            self.got[name].append(each.token)
            self.times[name].append(self.timeline.now)
            if each.end is not None:
                self.ended.add(name)
