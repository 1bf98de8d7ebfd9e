"""A gateway as its clients see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx
import msgspec

from tests.system.exchange import client
from tests.system.fleet_report import FleetReport, Metrics
from tests.system.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Gateway:
    """`url` is the base, without a path; `model` is the name that it serves."""

    url: str
    model: str

    @property
    def completions(self) -> str:
        return f"{self.url}/v1/completions"

    def report(self) -> FleetReport:
        """Freshly asked of the workers."""
        with client() as http:
            answer = http.get(f"{self.url}/fleet/workers?fresh=1").raise_for_status()
        return msgspec.json.decode(answer.content, type=FleetReport)

    def metrics(self) -> Metrics:
        with client() as http:
            return Metrics(http.get(f"{self.url}/metrics").raise_for_status().text)

    def serves(self, num_prefill: int, num_decode: int) -> bool:
        """So many workers of each role are ready for requests."""
        try:
            with client() as http:
                found = http.get(f"{self.url}/health").json()
        except (httpx.HTTPError, ValueError):
            return False
        counts = found.get("num_prefill_workers"), found.get("num_decode_workers")
        return counts == (num_prefill, num_decode)

    def body(self, prompt: Prompt, **more: Any) -> dict[str, Any]:
        """The greedy completion of `prompt`, in tokens."""
        salt = {"cache_salt": prompt.salt} if prompt.salt else {}
        return {
            "model": self.model,
            "prompt": prompt.ids,
            "max_tokens": prompt.max_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "return_token_ids": True,
            **salt,
            **more,
        }
