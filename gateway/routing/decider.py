"""Whether a prompt is computed by a prefill worker, or where it is decoded: as measured.

Both ways are predicted for every request. What the predictions were worth is learned from what
came of them, by way and size of the prompt, and a small control share takes the other way so
that this stays known.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

LEARNING = 0.2
OUTPUTS_LEARNING = 0.05
# Tokens of an answer, until some have ended.
GUESSED_OUTPUTS = 128.0
# Sizes of prompts, so many powers of two apart, stand for each other until they are known.
NEAR = 2
# What a correction leaves of a prediction.
LEAST_SHARE = 0.2
# Of the control share, what stays however much it costs.
LEAST_CONTROL = 0.25
# Shorter times are all alike.
LEAST_SECONDS = 1e-4
# What is missed of a goal, as a share of it, counts so many times as much.
EXCESS = 100.0


class Mode(StrEnum):
    ALWAYS = "always"
    NEVER = "never"
    AUTO = "auto"


class Way(StrEnum):
    REMOTE = "remote"  # a prefill worker computes the prompt
    LOCAL = "local"  # the decode worker does


@dataclass(frozen=True, slots=True)
class Slo:
    """Goals: to the first token, and from one to the next."""

    ttft_seconds: float = 2.0
    itl_seconds: float = 0.2


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one way. `itl_seconds`: the mean time between two tokens where it is decoded, with what
    all streams there lose to this prompt; `gap_seconds`: the longest gap that it puts into them.
    """

    ttft_seconds: float
    itl_seconds: float
    gap_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`costs`: of each way that there is; 2 if it is the better one in TTFT and ITL, and meets the
    goals.
    """

    way: Way
    is_control: bool = False
    size: int = 0
    forecasts: Mapping[Way, Forecast] = field(default_factory=dict)
    costs: Mapping[Way, float] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """Of one way and size of prompt: means that forget. `correction_seconds`: by how much the
    first token came later than predicted.
    """

    number: int = 0
    ttft_seconds: float = 0.0
    itl_seconds: float = 0.0
    correction_seconds: float = 0.0

    def learn(self, forecast: Forecast, ttft_seconds: float) -> None:
        share = max(LEARNING, 1 / (self.number + 1))
        self.number += 1
        self.ttft_seconds += share * (ttft_seconds - self.ttft_seconds)
        late = ttft_seconds - forecast.ttft_seconds
        self.correction_seconds += share * (late - self.correction_seconds)

    def corrected(self, ttft_seconds: float) -> float:
        return max(ttft_seconds + self.correction_seconds, LEAST_SHARE * ttft_seconds)

    def learn_itl(self, seconds: float) -> None:
        share = LEARNING if self.itl_seconds else 1.0
        self.itl_seconds += share * (seconds - self.itl_seconds)


class Decider:
    """`control_share` of the requests that could go either way take the other one; fewer where
    that costs much, so that all of them together add about this share to what requests cost, but
    never less than a quarter of it.
    """

    def __init__(
        self,
        mode: Mode = Mode.AUTO,
        slo: Slo | None = None,
        control_share: float = 0.02,
        seed: int | None = None,
    ) -> None:
        self.mode = mode
        self.slo = slo or Slo()
        self.control_share = control_share
        self._random = random.Random(seed)
        self._seen: dict[int, dict[Way, Seen]] = defaultdict(lambda: {way: Seen() for way in Way})
        self.typical_outputs = GUESSED_OUTPUTS

    def decide(self, num_tokens: int, forecasts: Mapping[Way, Forecast]) -> Verdict:
        """`num_tokens` of the prompt are cached nowhere; one forecast at least."""
        size = size_of(num_tokens)
        costs = self._costs(size, forecasts)
        if len(costs) == 1 or self.mode is not Mode.AUTO:
            wanted = Way.LOCAL if self.mode is Mode.NEVER else Way.REMOTE
            way = wanted if wanted in costs else next(iter(costs))
            return Verdict(way, False, size, forecasts, costs)
        way = min(costs, key=costs.__getitem__)
        other = Way.LOCAL if way is Way.REMOTE else Way.REMOTE
        is_control = self._random.random() < self._control_share(costs[way], costs[other])
        return Verdict(other if is_control else way, is_control, size, forecasts, costs)

    def observe(self, verdict: Verdict, ttft_seconds: float) -> None:
        """What came of it."""
        forecast = verdict.forecasts.get(verdict.way)
        if forecast is not None:
            self._seen[verdict.size][verdict.way].learn(forecast, ttft_seconds)

    def observe_answer(self, verdict: Verdict, num_tokens: int, itl_seconds: float) -> None:
        """All of it is there: more than one token, with this mean time between them."""
        self.typical_outputs += OUTPUTS_LEARNING * (num_tokens - self.typical_outputs)
        if verdict.forecasts:
            self._seen[verdict.size][verdict.way].learn_itl(itl_seconds)

    @property
    def seen(self) -> Mapping[int, Mapping[Way, Seen]]:
        """By size of prompt: up to so many tokens that are cached nowhere."""
        return {2**size: self._seen[size] for size in sorted(self._seen)}

    def gain_seconds(self) -> float | None:
        """TTFT that hand-off saves a request, over the sizes that both ways were seen of, by how
        often each came; None if there is none.
        """
        saved = weight = 0.0
        for ways in self._seen.values():
            remote, local = ways[Way.REMOTE], ways[Way.LOCAL]
            if remote.number and local.number:
                number = remote.number + local.number
                saved += number * (local.ttft_seconds - remote.ttft_seconds)
                weight += number
        return saved / weight if weight else None

    def _control_share(self, cost: float, other_cost: float) -> float:
        more = other_cost - cost
        return self.control_share * (max(LEAST_CONTROL, min(1.0, cost / more)) if more > 0 else 1.0)

    def _like(self, size: int, way: Way) -> Seen | None:
        """What has been seen of this way: of this size, or of one that is near; None if nothing
        has.
        """
        for near in sorted(self._seen, key=lambda each: abs(each - size)):
            if abs(near - size) <= NEAR and (seen := self._seen[near][way]).number:
                return seen
        return None

    def _costs(self, size: int, forecasts: Mapping[Way, Forecast]) -> dict[Way, float]:
        """TTFT and ITL, each as a multiple of what the better way forecasts, and what goals are
        missed by.
        """
        ttft = {way: self._ttft(size, way, each) for way, each in forecasts.items()}
        least_ttft = max(LEAST_SECONDS, min(ttft.values()))
        least_itl = max(LEAST_SECONDS, min(each.itl_seconds for each in forecasts.values()))
        return {
            way: ttft[way] / least_ttft
            + each.itl_seconds / least_itl
            + excess(ttft[way] / self.slo.ttft_seconds)
            + excess(max(each.itl_seconds, each.gap_seconds) / self.slo.itl_seconds)
            for way, each in forecasts.items()
        }

    def _ttft(self, size: int, way: Way, forecast: Forecast) -> float:
        like = self._like(size, way)
        return like.corrected(forecast.ttft_seconds) if like else forecast.ttft_seconds


def excess(share_of_goal: float) -> float:
    """What is beyond the goal counts much more."""
    return EXCESS * max(0.0, share_of_goal - 1)


def size_of(num_tokens: int) -> int:
    """Sizes are powers of two."""
    return max(0, num_tokens - 1).bit_length()
