"""`baton fleet explain`: why requests went where they went."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from baton.console import Console
from baton.figures import UNKNOWN, count, span
from baton.gateway_page import fetch, names_of, read
from baton.table import render

HEADING = ("request", "way", "prompt", "computed", "by", "decoded by", "predicted TTFT")
MAX_ID = 64


@dataclass(frozen=True, slots=True)
class Forecast:
    ttft_seconds: float
    itl_seconds: float
    gap_seconds: float = 0.0
    cost: float | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """Each candidate has a worker, its score, and what each scorer gave of that."""

    taken: str
    num_candidates: int = 0
    candidates: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Explanation:
    way: str
    computed_by: str
    decoded_by: str
    is_control: bool = False
    prompt_tokens: int = 0
    uncached_tokens: int = 0
    kv_tokens: int = 0
    took_over_from: str | None = None
    forecasts: dict[str, Forecast] = field(default_factory=dict)
    compute: Choice | None = None
    decode: Choice | None = None

    @property
    def words(self) -> str:
        how = (self.way, "for control" * self.is_control, "taken over" * bool(self.took_over_from))
        return ", ".join(filter(None, how))


@dataclass(frozen=True, slots=True)
class Latest:
    requests: dict[str, Explanation]


def fetch_explanation(gateway: str, request_id: str | None) -> Any:
    """Of one request or of the last ones. Raises NoAnswer, also if nothing is known of it."""
    query = f"?request_id={quote(request_id, safe='')}" if request_id else ""
    return fetch(gateway, f"/fleet/explain{query}")


def show_explanation(page: Any, console: Console) -> int:
    """0. Raises NoAnswer."""
    is_one = "requests" not in page
    for line in one(read(page, Explanation)) if is_one else several(read(page, Latest).requests):
        console.line(line)
    return 0


def several(requests: dict[str, Explanation]) -> Iterator[str]:
    """The last at the bottom."""
    if not requests:
        yield "No request has been sent to a worker yet"
        return
    explanations = requests.values()
    names = names_of(key for each in explanations for key in (each.computed_by, each.decoded_by))
    yield from render(
        HEADING,
        [
            (
                name if len(name) <= MAX_ID else name[:MAX_ID],
                each.words,
                count(each.prompt_tokens),
                count(each.uncached_tokens),
                names[each.computed_by],
                names[each.decoded_by],
                span(each.forecasts[each.way].ttft_seconds)
                if each.way in each.forecasts
                else UNKNOWN,
            )
            for name, each in requests.items()
        ],
    )


def one(request: Explanation) -> Iterator[str]:
    names = names_of((request.computed_by, request.decoded_by))
    computed_by, decoded_by = names[request.computed_by], names[request.decoded_by]
    yield (
        f"{request.words.capitalize()}: {computed_by} computes {count(request.uncached_tokens)} of "
        f"{count(request.prompt_tokens)} prompt tokens, {decoded_by} decodes and keeps room for "
        f"{count(request.kv_tokens)}"
    )
    if request.took_over_from:
        planned = request.took_over_from.partition("/")[0]
        yield f"{computed_by} had nothing to do and took it over from {planned}"
    if request.forecasts:
        yield ""
        yield from forecasts(request)
    for title, choice in (("Computes", request.compute), ("Decodes", request.decode)):
        if choice:
            yield ""
            yield from candidates(title, choice)


def forecasts(request: Explanation) -> list[str]:
    rows = [
        (
            "*" if way == request.way else "",
            way,
            span(each.ttft_seconds),
            span(each.itl_seconds),
            span(each.gap_seconds),
            UNKNOWN if each.cost is None else f"{each.cost:.3g}",
        )
        for way, each in request.forecasts.items()
    ]
    return render(("", "way", "predicted TTFT", "ITL", "longest gap", "cost"), rows)


def candidates(title: str, choice: Choice) -> list[str]:
    """The taken one is marked; scores are weighted."""
    names = names_of(str(each["worker"]) for each in choice.candidates)
    scorers = [
        name for name in next(iter(choice.candidates), {}) if name not in ("worker", "score")
    ]
    rows = [
        (
            "*" if each["worker"] == choice.taken else "",
            names[each["worker"]],
            *(score(each.get(name)) for name in ("score", *scorers)),
        )
        for each in choice.candidates
    ]
    heading = ("", f"{title}, of {choice.num_candidates}", "score", *scorers)
    return render(heading, rows)


def score(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.3f}"
