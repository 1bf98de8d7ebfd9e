"""How the fleet calls a KV block: by the end of vLLM's hash of it and of all before it."""

from __future__ import annotations

KEY_BITS = 64


def block_key(block_hash: bytes | int) -> int:
    """vLLM's KV events shorten hashes in the same way (VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES)."""
    if isinstance(block_hash, bytes):
        return int.from_bytes(block_hash[-KEY_BITS // 8 :], "big")
    return block_hash & ((1 << KEY_BITS) - 1)
