"""What one step of a simulated engine has brought."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from worker.load import Load
from worker.sim.core import Token

# vLLM's frames of the tokens of the engine ids in a mapping to request ids, at a time.
Encode = Callable[[Iterable[Token], Mapping[str, str], float], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class SimStep:
    """See `worker.interface.Step`."""

    tokens: Sequence[Token]
    load: Load | None
    timestamp: float
    encoder: Encode

    def outputs(self) -> Iterable[tuple[str, bool]]:
        return [(each.request.task.engine_id, each.end is not None) for each in self.tokens]

    def encode(self, names: Mapping[str, str]) -> Sequence[bytes]:
        return self.encoder(self.tokens, names, self.timestamp)
