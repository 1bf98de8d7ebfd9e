"""vLLM's messages for an engine that is none of vLLM's: requests read, outputs written.

Written against vllm/v1/engine/__init__.py and vllm/v1/core/kv_cache_utils.py of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import vllm
from vllm.utils.hashing import sha256_cbor
from vllm.v1.core import kv_cache_utils
from vllm.v1.engine import (
    EngineCoreEvent,
    EngineCoreEventType,
    EngineCoreOutput,
    EngineCoreOutputs,
    EngineCoreRequest,
    FinishReason,
)
from vllm.v1.metrics.stats import PrefillStats
from vllm.v1.serial_utils import MsgpackDecoder

from proto.block_key import block_key
from worker.errors import BadRequest
from worker.sim.core import Token
from worker.sim.request import End, NextKeys, Request

VLLM_VERSION: str = vllm.__version__
FINISH_REASONS = {End.STOP: FinishReason.STOP, End.LENGTH: FinishReason.LENGTH}


class SimCodec:
    """See `worker.sim.engine.Codec`. Blocks are named as vLLM's engines name them, with its hash
    and its seed of it (PYTHONHASHSEED).
    """

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._decoder = MsgpackDecoder(EngineCoreRequest)
        # Not vLLM's own: there are no tensors.
        self._encoder = msgspec.msgpack.Encoder()
        kv_cache_utils.init_none_hash(sha256_cbor)

    def decode(self, frames: Sequence[bytes]) -> Any:
        """Raises BadRequest for what is no request, or asks for what is not simulated."""
        first, *tensors = frames
        try:
            request = self._decoder.decode([first, *map(bytearray, tensors)])
        except Exception as error:
            kind = type(error).__name__
            raise BadRequest(f"the request cannot be decoded ({kind})") from error
        if request.sampling_params is not None:
            check_simulated(request.sampling_params)
        return request

    def names(self, cache_salt: str | None) -> NextKeys:
        """The first block's name depends on the salt, and so do all others."""
        size, parent = self._block_size, None
        extra = (("cache_salt", cache_salt),) if cache_salt else None

        def next_keys(tokens: Sequence[int]) -> list[int]:
            nonlocal parent, extra
            keys = []
            for start in range(0, len(tokens), size):
                part = tokens[start : start + size]
                parent = kv_cache_utils.hash_block_tokens(sha256_cbor, parent, part, extra)
                extra = None
                keys.append(block_key(parent))
            return keys

        return next_keys

    def encode(
        self, tokens: Iterable[Token], names: Mapping[str, str], timestamp: float
    ) -> Sequence[bytes]:
        """Those of the engine ids in `names`, under the request ids there."""
        outputs = [
            output_of(each, names[each.request.task.engine_id])
            for each in tokens
            if each.request.task.engine_id in names
        ]
        return [self._encoder.encode(EngineCoreOutputs(outputs=outputs, timestamp=timestamp))]


def check_simulated(sampling: Any) -> None:
    """Raises BadRequest."""
    unsupported = {
        "logprobs": sampling.logprobs is not None,
        "prompt logprobs": sampling.prompt_logprobs is not None,
        "structured output": sampling.structured_outputs is not None,
    }
    for what, is_asked in unsupported.items():
        if is_asked:
            raise BadRequest(f"{what}: not supported by a simulated engine")


def output_of(token: Token, request_id: str) -> EngineCoreOutput:
    request = token.request
    if token.end is None and not token.is_first:
        return EngineCoreOutput(request_id, [token.token])
    is_stop = token.end is End.STOP
    return EngineCoreOutput(
        request_id,
        [token.token],
        finish_reason=FINISH_REASONS[token.end] if token.end else None,
        stop_reason=token.token if is_stop else None,
        events=events_of(request) if token.is_first else None,
        prefill_stats=stats_of(request) if token.is_first else None,
    )


def events_of(request: Request) -> list[EngineCoreEvent]:
    times = (
        (EngineCoreEventType.QUEUED, request.arrived_at),
        (EngineCoreEventType.SCHEDULED, request.first_scheduled_at),
    )
    return [EngineCoreEvent(kind, at) for kind, at in times if at is not None]


def stats_of(request: Request) -> PrefillStats:
    stats = PrefillStats()
    stats.set(request.num_prompt, request.num_cached, request.num_loaded)
    return stats
