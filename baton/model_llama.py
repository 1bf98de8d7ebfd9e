"""The Llama architecture as Hugging Face's loaders know it: configuration, tensors, shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ATTENTION_QUERY = "self_attn.q_proj.weight"
ATTENTION_KEY = "self_attn.k_proj.weight"


@dataclass(frozen=True, slots=True)
class Llama:
    """One model of the family. Sizes are numbers of elements; `rope_theta` is the rotary base."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    hidden_size: int
    intermediate_size: int
    vocab_size: int
    context_tokens: int
    norm_epsilon: float
    rope_theta: float
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int
    has_tied_embeddings: bool

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.num_heads

    def config(self) -> dict[str, object]:
        """The content of config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "dtype": "bfloat16",
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "hidden_act": "silu",
            "attention_bias": False,
            "mlp_bias": False,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": self.context_tokens,
            "rms_norm_eps": self.norm_epsilon,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": self.has_tied_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
        }

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor that the weights must hold."""
        hidden = self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (self.vocab_size, hidden),
            "model.norm.weight": (hidden,),
        }
        if not self.has_tied_embeddings:
            shapes["lm_head.weight"] = (self.vocab_size, hidden)
        for layer in range(self.num_layers):
            for name, shape in self._layer_shapes().items():
                shapes[f"model.layers.{layer}.{name}"] = shape
        return shapes

    def _layer_shapes(self) -> dict[str, tuple[int, ...]]:
        hidden, intermediate = self.hidden_size, self.intermediate_size
        key_rows = self.num_kv_heads * self.head_size
        return {
            "input_layernorm.weight": (hidden,),
            "post_attention_layernorm.weight": (hidden,),
            ATTENTION_QUERY: (hidden, hidden),
            ATTENTION_KEY: (key_rows, hidden),
            "self_attn.v_proj.weight": (key_rows, hidden),
            "self_attn.o_proj.weight": (hidden, hidden),
            "mlp.gate_proj.weight": (intermediate, hidden),
            "mlp.up_proj.weight": (intermediate, hidden),
            "mlp.down_proj.weight": (hidden, intermediate),
        }

    def unpermuted(self, name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Query and key rows in Hugging Face's rotary order (halves), from llama.cpp's (pairs)."""
        heads = {ATTENTION_QUERY: self.num_heads, ATTENTION_KEY: self.num_kv_heads}
        for ending, num_heads in heads.items():
            if name.endswith(ending):
                pairs = weight.reshape(num_heads, self.head_size // 2, 2, -1)
                return pairs.swapaxes(1, 2).reshape(weight.shape)
        return weight
