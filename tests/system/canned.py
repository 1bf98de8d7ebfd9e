"""Made-up engine outputs at a steady pace: all sequences get one token each step."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.serial_utils import MsgpackEncoder

STEP_SECONDS = 0.02
# Words, mostly, in the default model's vocabulary.
TOKEN_IDS = range(300, 5300)


@dataclass(slots=True)
class CannedEngine:
    """`making_seconds`: the CPU time that its outputs have cost, which no real front half pays."""

    making_seconds: float = 0.0
    _left: dict[str, int] = field(default_factory=dict)
    _encoder: MsgpackEncoder = field(default_factory=MsgpackEncoder)

    def add(self, request: EngineCoreRequest) -> None:
        assert request.sampling_params is not None
        assert request.sampling_params.max_tokens is not None
        self._left[request.request_id] = request.sampling_params.max_tokens

    def remove(self, request_id: str) -> None:
        self._left.pop(request_id, None)

    async def next_step(self) -> list[bytes]:
        """One message with an output for each sequence."""
        while True:
            await asyncio.sleep(STEP_SECONDS)
            if self._left:
                return self._make()

    def _make(self) -> list[bytes]:
        started_at = time.thread_time()
        outputs = []
        for request_id, left in list(self._left.items()):
            token = TOKEN_IDS[left % len(TOKEN_IDS)]
            finish = FinishReason.LENGTH if left == 1 else None
            outputs.append(EngineCoreOutput(request_id, [token], finish_reason=finish))
            self._left[request_id] = left - 1
            if left == 1:
                del self._left[request_id]
        frames = self._encoder.encode(EngineCoreOutputs(outputs=outputs))
        self.making_seconds += time.thread_time() - started_at
        return [bytes(frame) for frame in frames]
