"""Small models with random weights, made here: one of each kind of KV cache."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

VOCABULARY = 512
LAYERS = 4
MAX_LENGTH = 2048
# Large enough for the attention to choose, so that wrong KV gives other tokens.
SPREAD = 0.15

COMMON: Mapping[str, Any] = MappingProxyType(
    {
        "vocab_size": VOCABULARY,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "initializer_range": SPREAD,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
)


def llama(transformers: Any) -> Any:
    """Grouped-query attention: 2 KV heads of 32 elements."""
    return transformers.LlamaConfig(**COMMON, num_key_value_heads=2, head_dim=32)


def one_head(transformers: Any) -> Any:
    """Fewer KV heads than ranks, when there are two."""
    return transformers.LlamaConfig(**COMMON, num_key_value_heads=1, head_dim=32)


def mixtral(transformers: Any) -> Any:
    """A mixture of experts."""
    return transformers.MixtralConfig(
        **COMMON, num_key_value_heads=2, head_dim=32, num_local_experts=4, num_experts_per_tok=2
    )


def deepseek(transformers: Any) -> Any:
    """Multi-head latent attention: one latent vector a token, which every rank holds.

    vLLM's CPU kernel for it is not exact, and a larger spread would make much of that.
    """
    return transformers.DeepseekV2Config(
        **{**COMMON, "initializer_range": SPREAD / 3},
        num_key_value_heads=4,
        kv_lora_rank=512,
        q_lora_rank=None,
        qk_nope_head_dim=64,
        qk_rope_head_dim=64,
        v_head_dim=64,
        n_routed_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=64,
        first_k_dense_replace=LAYERS,
        n_shared_experts=1,
        n_group=1,
        topk_group=1,
    )


MODELS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {"llama": llama, "one-head": one_head, "mixtral": mixtral, "deepseek": deepseek}
)


def make_model(name: str, folder: Path) -> Path:
    """The folder, with weights in float32 that are the same each time."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(MODELS[name](transformers))
    model.to(torch.float32).save_pretrained(folder)
    return folder
