"""Whether a prompt is computed by a prefill worker, or where it is decoded: as measured.

Both ways are predicted for every request. What the predictions were worth is learned from what
came of them, by way and size of the prompt, and a small control share takes the other way so
that this stays known. Prompts of a size have a usual way: the one that costs less where nobody
waits. A request leaves it where the other way costs much less now.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.routing.gain import Gain
from gateway.routing.way import Forecast, Slo, Way

LEARNING = 0.2
OUTPUTS_LEARNING = 0.05
# Tokens of an answer, until some have ended.
GUESSED_OUTPUTS = 128.0
# Sizes of prompts, so many powers of two apart, stand for each other until they are known.
NEAR = 2
# What a correction leaves of a prediction, and how many times as late one request counts at most.
LEAST_SHARE = 0.2
MOST_LATE = 10.0
# What control adds to the cost of all requests, at most, as a share of it; but some of the control
# share stays however much it costs.
CONTROL_COST = 0.01
LEAST_CONTROL = 0.1
# A way that was seen fewer times, of sizes that are near, is tried by this share of the requests.
KNOWN = 3
TRIAL_SHARE = 0.125
# Hand-off becomes usual where the other way costs so many times as much.
WORTH = 1.1
USUAL_LEARNING = 0.05
# A request leaves the usual way where that costs so many times as much as the other.
MUCH = 2.0


class Mode(StrEnum):
    ALWAYS = "always"
    NEVER = "never"
    AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of each way that there is: `expected`, the forecast seconds to the first token as corrected
    by what was seen; `costs`, by the goals.
    """

    way: Way
    is_control: bool = False
    size: int = 0
    forecasts: Mapping[Way, Forecast] = field(default_factory=dict)
    expected: Mapping[Way, float] = field(default_factory=dict)
    costs: Mapping[Way, float] = field(default_factory=dict)


@dataclass(slots=True)
class Seen:
    """Of one way and size of prompt: means that forget. `correction_seconds`: by how much the
    first token came later than predicted, waiting left out on both sides.
    """

    number: int = 0
    ttft_seconds: float = 0.0
    itl_seconds: float = 0.0
    correction_seconds: float = 0.0

    def learn(self, forecast: Forecast, ttft_seconds: float, waited_seconds: float) -> None:
        share = max(LEARNING, 1 / (self.number + 1))
        self.number += 1
        self.ttft_seconds += share * (ttft_seconds - self.ttft_seconds)
        computing = forecast.ttft_seconds - forecast.wait_seconds
        late = min(ttft_seconds - waited_seconds - computing, MOST_LATE * computing)
        self.correction_seconds += share * (late - self.correction_seconds)

    def corrected(self, ttft_seconds: float) -> float:
        return max(ttft_seconds + self.correction_seconds, LEAST_SHARE * ttft_seconds)

    def learn_itl(self, seconds: float) -> None:
        share = LEARNING if self.itl_seconds else 1.0
        self.itl_seconds += share * (seconds - self.itl_seconds)


@dataclass(slots=True)
class Usual:
    """The way of most prompts of one size, by what each costs without waiting, and with nothing
    added for goals that are missed (for single requests that may be): means that forget.
    """

    way: Way = Way.LOCAL
    number: int = 0
    remote_cost: float = 0.0
    local_cost: float = 0.0

    def learn(self, remote_cost: float, local_cost: float) -> None:
        self.number += 1
        share = max(USUAL_LEARNING, 1 / self.number)
        self.remote_cost += share * (remote_cost - self.remote_cost)
        self.local_cost += share * (local_cost - self.local_cost)
        worth = 1.0 if self.way is Way.REMOTE else WORTH
        self.way = Way.REMOTE if self.local_cost > worth * self.remote_cost else Way.LOCAL


class Decider:
    """`control_share` of the requests that could go either way take the other one; fewer where
    that costs much, but never less than a tenth of it; and more until the other way is known.
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
        self._usual: dict[int, Usual] = {}
        self._gain = Gain()
        self._tried: Counter[tuple[int, Way]] = Counter()
        self.typical_outputs = GUESSED_OUTPUTS

    def decide(self, num_tokens: int, forecasts: Mapping[Way, Forecast]) -> Verdict:
        """`num_tokens` of the prompt are cached nowhere; one forecast at least."""
        size = size_of(num_tokens)
        expected = {way: self._ttft(size, way, each) for way, each in forecasts.items()}
        costs = {way: self.slo.cost(expected[way], each) for way, each in forecasts.items()}
        if len(costs) == 1 or self.mode is not Mode.AUTO:
            wanted = Way.LOCAL if self.mode is Mode.NEVER else Way.REMOTE
            way = wanted if wanted in costs else next(iter(costs))
            return Verdict(way, False, size, forecasts, expected, costs)
        way = self._usual_way(size, forecasts)
        if costs[way] > MUCH * costs[way.other]:
            way = way.other
        is_control = self._random.random() < self._control_share(size, way, costs)
        if is_control:
            way = way.other
            self._tried[size, way] += 1
        return Verdict(way, is_control, size, forecasts, expected, costs)

    def observe(self, verdict: Verdict, ttft_seconds: float, waited_seconds: float = 0.0) -> None:
        """What came of it, with so much of the time waited here for a worker."""
        forecast = verdict.forecasts.get(verdict.way)
        if forecast is not None:
            seen = self._seen[verdict.size][verdict.way]
            seen.learn(forecast, ttft_seconds, waited_seconds)
            chosen = verdict.way.other if verdict.is_control else verdict.way
            self._gain.learn(verdict.size, chosen, verdict.way, ttft_seconds)

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
        """TTFT that hand-off saves a request; None while too few took the other way."""
        return self._gain.seconds()

    def usual_way(self, num_tokens: int) -> Way | None:
        """Of prompts of that size; None if there was none."""
        usual = self._usual.get(size_of(num_tokens))
        return usual.way if usual else None

    def _usual_way(self, size: int, forecasts: Mapping[Way, Forecast]) -> Way:
        usual = self._usual.setdefault(size, Usual())
        costs = {
            way: self.slo.cost(self._computing(size, way, each), each, excess=0)
            for way, each in forecasts.items()
        }
        usual.learn(costs[Way.REMOTE], costs[Way.LOCAL])
        return usual.way

    def _ttft(self, size: int, way: Way, forecast: Forecast) -> float:
        return forecast.wait_seconds + self._computing(size, way, forecast)

    def _computing(self, size: int, way: Way, forecast: Forecast) -> float:
        """Of the time to the first token, what is no waiting; as corrected by what was seen."""
        seconds = max(0.0, forecast.ttft_seconds - forecast.wait_seconds)
        like = self._like(size, way)
        return like.corrected(seconds) if like else seconds

    def _control_share(self, size: int, way: Way, costs: Mapping[Way, float]) -> float:
        """Of the requests that would go this way, those that take the other."""
        if self.control_share and self._number_near(size, way.other) < KNOWN:
            return max(self.control_share, TRIAL_SHARE)
        cost, more = costs[way], costs[way.other] - costs[way]
        least = LEAST_CONTROL * self.control_share
        return min(self.control_share, max(least, CONTROL_COST * cost / more if more > 0 else 1.0))

    def _number_near(self, size: int, way: Way) -> int:
        """Of requests that went or were tried this way, of sizes that are near."""
        seen = sum(ways[way].number for near, ways in self._seen.items() if is_near(near, size))
        tried = sum(
            number
            for (near, tried), number in self._tried.items()
            if tried is way and is_near(near, size)
        )
        return max(seen, tried)

    def _like(self, size: int, way: Way) -> Seen | None:
        """What has been seen of this way: of this size, or of one that is near; None if nothing
        has.
        """
        for near in sorted(self._seen, key=lambda each: abs(each - size)):
            if is_near(near, size) and (seen := self._seen[near][way]).number:
                return seen
        return None


def is_near(size: int, other: int) -> bool:
    return abs(size - other) <= NEAR


def size_of(num_tokens: int) -> int:
    """Sizes are powers of two."""
    return max(0, num_tokens - 1).bit_length()
