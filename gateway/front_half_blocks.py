"""The names of a request's KV blocks, made as the engines make them.

By vLLM's own hasher: LoRA, cache salt and multimodal keys are part of it. Written against
vllm/v1/core/kv_cache_utils.py of vLLM 0.32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from vllm.utils.hashing import sha256_cbor
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.request import Request

from fleet.tier import BlockKeys
from proto.block_key import block_key


class BlockNamer:
    """Workers hash by the same algorithm (worker/engine_plan.py) and seed (PYTHONHASHSEED)."""

    def __init__(self) -> None:
        init_none_hash(sha256_cbor)

    def keys(
        self, request: EngineCoreRequest, block_sizes: Iterable[int]
    ) -> Mapping[int, BlockKeys]:
        """Of all whole blocks of the prompt, by tokens in a block."""
        return {size: self._keys(request, size) for size in block_sizes}

    def _keys(self, request: EngineCoreRequest, block_size: int) -> BlockKeys:
        hasher = get_request_block_hasher(block_size, sha256_cbor)
        hashed = Request.from_engine_core_request(request, hasher)
        return np.fromiter(map(block_key, hashed.block_hashes), np.uint64)
