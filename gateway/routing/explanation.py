"""Why a request went where it went."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gateway.routing.lanes import Waiting
from gateway.routing.profile import Choice

MAX_KEPT = 512
# Letters of an id that are enough to find it.
LEAST_PART = 6


@dataclass(frozen=True, slots=True)
class Explanation:
    """Plain values, as JSON takes them; nothing of the prompt but its length."""

    content: dict[str, Any]

    @classmethod
    def of(cls, item: Waiting, keys: Sequence[str], row: int, decode: Choice | None) -> Explanation:
        verdict = item.verdict
        planned = item.worker == keys[row]
        return cls(
            {
                "way": verdict.way.value,
                "is_control": verdict.is_control,
                "prompt_tokens": item.query.num_prompt_tokens,
                "uncached_tokens": item.num_tokens,
                "kv_tokens": item.query.kv_tokens,
                "computed_by": keys[row],
                "decoded_by": keys[decode.row] if decode else keys[row],
                "took_over_from": None if planned else item.worker,
                "forecasts": {
                    way.value: {
                        "ttft_seconds": verdict.expected.get(way, forecast.ttft_seconds),
                        "itl_seconds": forecast.itl_seconds,
                        "gap_seconds": forecast.gap_seconds,
                        "cost": verdict.costs.get(way),
                    }
                    for way, forecast in verdict.forecasts.items()
                },
                "compute": shown(item.choice, keys) if item.choice and planned else None,
                "decode": shown(decode, keys) if decode else None,
            }
        )

    def header(self) -> str:
        """In one line."""
        content = self.content
        parts = [
            f"way={content['way']}",
            f"prefill={worker_id(content['computed_by'])}",
            f"decode={worker_id(content['decoded_by'])}",
            f"prompt={content['prompt_tokens']}",
            f"uncached={content['uncached_tokens']}",
        ]
        if content["is_control"]:
            parts.append("control")
        return "; ".join(parts)


class Explanations:
    """The last MAX_KEPT, by request id."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Explanation] = OrderedDict()

    def add(self, explanation: Explanation, request_id: str) -> None:
        self._kept[request_id] = explanation
        self._kept.move_to_end(request_id)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)

    def get(self, request_id: str) -> Explanation | None:
        """Of that engine request, or of the last that was made for the client's request of that id:
        engine ids are like "0_chatcmpl-ID-1". Else, of the last with these letters in its id.
        """
        if found := self._kept.get(request_id):
            return found
        whole = (name for name in reversed(self._kept) if f"-{request_id}-" in f"{name}-")
        parts = (name for name in reversed(self._kept) if request_id in name)
        name = next(whole, None) or (next(parts, None) if len(request_id) >= LEAST_PART else None)
        return self._kept[name] if name else None

    def latest(self, number: int) -> dict[str, dict[str, Any]]:
        """The last ones, by request id."""
        names = list(self._kept)[-number:]
        return {name: self._kept[name].content for name in names}


def shown(choice: Choice, keys: Sequence[str]) -> dict[str, Any]:
    """The best candidates with what each scorer gave them, weighted."""
    return {
        "taken": keys[choice.row],
        "num_candidates": choice.num_candidates,
        "candidates": [
            {
                "worker": keys[row],
                "score": choice.totals[place],
                **{name: scores[place] for name, scores in choice.by_scorer.items()},
            }
            for place, row in enumerate(choice.rows)
        ],
    }


def worker_id(key: str) -> str:
    return key.partition("/")[0]
