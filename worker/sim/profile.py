"""How fast a simulated engine is: what `baton sim calibrate` learns of a real one."""

from __future__ import annotations

from pathlib import Path

import msgspec

from worker.errors import BadSettings


class SimProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The defaults are those of SmolLM2-135M on one core of a server CPU (docs/simulation.md).

    A step takes the sum of its parts: `step_seconds` whatever it computes,
    `prefill_token_seconds` for each token of a prompt, `attention_seconds` for each pair of
    such a token and one before it, `decode_seconds` for each request that generates, and
    `context_token_seconds` for each token of such a request's context.

    KV of one hand-off moves at `bandwidth` bytes a second after `latency_seconds`.
    """

    step_seconds: float = 0.037
    prefill_token_seconds: float = 0.0012
    attention_seconds: float = 1.0e-6
    decode_seconds: float = 0.0
    context_token_seconds: float = 3.7e-6
    bandwidth: float = 1.7e9
    latency_seconds: float = 0.0006

    def __post_init__(self) -> None:
        numbers = {name: getattr(self, name) for name in self.__struct_fields__}
        if bad := [name for name, value in numbers.items() if not value >= 0]:
            raise ValueError(f"{bad[0]} is below zero")
        if not self.bandwidth:
            raise ValueError("bandwidth is above zero")

    @classmethod
    def read(cls, path: Path) -> SimProfile:
        """Raises BadSettings."""
        try:
            return msgspec.json.decode(path.read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise BadSettings(f"--profile {path}: {error}") from error

    def times(self, factor: float) -> SimProfile:
        """An engine that takes `factor` times as long for its steps, and moves KV as quickly."""
        return msgspec.structs.replace(
            self,
            step_seconds=self.step_seconds * factor,
            prefill_token_seconds=self.prefill_token_seconds * factor,
            attention_seconds=self.attention_seconds * factor,
            decode_seconds=self.decode_seconds * factor,
            context_token_seconds=self.context_token_seconds * factor,
        )

    def with_bandwidth(self, bandwidth: float) -> SimProfile:
        return msgspec.structs.replace(self, bandwidth=bandwidth)

    def faster(self, speed: float) -> SimProfile:
        """All of it `speed` times as fast, the network included."""
        return msgspec.structs.replace(
            self.times(1 / speed),
            bandwidth=self.bandwidth * speed,
            latency_seconds=self.latency_seconds / speed,
        )
