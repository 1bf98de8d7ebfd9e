"""The stand-in worker's requests and outputs in vLLM's own encoding."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs, EngineCoreRequest, FinishReason
from vllm.v1.outputs import LogprobsLists
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from tests.gateway.stand_in_worker import Job, Token

FINISH = {str(reason): reason for reason in FinishReason}


class VllmWire:
    def __init__(self) -> None:
        self._decoder = MsgpackDecoder(EngineCoreRequest)
        self._encoder = MsgpackEncoder()

    def job(self, frames: Sequence[bytes]) -> Job:
        request = self._decoder.decode([bytearray(frame) for frame in frames])
        params = request.sampling_params
        return Job(tuple(request.prompt_token_ids), params.max_tokens, params.logprobs)

    def step(self, tokens: Sequence[Token]) -> list[bytes]:
        outputs = [
            EngineCoreOutput(
                request_id=token.leg_id,
                new_token_ids=[token.token],
                new_logprobs=logprobs_of(token),
                finish_reason=FINISH[token.finish] if token.finish else None,
            )
            for token in tokens
        ]
        return [bytes(f) for f in self._encoder.encode(EngineCoreOutputs(outputs=outputs))]


def logprobs_of(token: Token) -> LogprobsLists | None:
    """As if the chosen token were the likeliest, and its successors next."""
    if token.job.num_logprobs is None:
        return None
    width = token.job.num_logprobs + 1
    ids = np.arange(token.token, token.token + width, dtype=np.int32)[None]
    return LogprobsLists(
        ids, -np.arange(1, width + 1, dtype=np.float32)[None], np.zeros(1, np.int32)
    )
