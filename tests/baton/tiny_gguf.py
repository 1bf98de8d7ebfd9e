"""Writes a Llama model of a few kilobytes in GGUF, as llama.cpp's converter would."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from baton.model_llama import ATTENTION_KEY, ATTENTION_QUERY, Llama

Q4_1 = gguf.GGMLQuantizationType.Q4_1
Weights = dict[str, NDArray[np.float32]]

OUTER = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
INNER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
BYTES = sorted({*range(33, 127), *range(161, 173), *range(174, 256)})
# Byte-level BPE writes a space as the 257th character of its alphabet.
TOKENS = ["<unk>", "<start>", "<end>", *map(chr, BYTES), "\u0120", "he", "llo", "ll"]
MERGES = ["h e", "l l", "ll o"]


def make_llama(**changed: object) -> Llama:
    values: dict[str, object] = {
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "vocab_size": len(TOKENS),
        "context_tokens": 128,
        "norm_epsilon": 1e-5,
        "rope_theta": 10000.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
        "has_tied_embeddings": True,
    }
    return Llama(**(values | changed))  # type: ignore[arg-type]


def make_weights(llama: Llama) -> Weights:
    """Random numbers that bf16 holds exactly, in Hugging Face's names and order."""
    random = np.random.default_rng(7)
    return {
        name: (random.integers(-64, 64, shape) / 32).astype(np.float32)
        for name, shape in llama.shapes().items()
    }


def permuted(llama: Llama, name: str, weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """The rows of query and key as llama.cpp's converter orders them."""
    heads = {ATTENTION_QUERY: llama.num_heads, ATTENTION_KEY: llama.num_kv_heads}
    for ending, count in heads.items():
        if name.endswith(ending):
            halves = weight.reshape(count, 2, weight.shape[0] // count // 2, *weight.shape[1:])
            return halves.swapaxes(1, 2).reshape(weight.shape)
    return weight


def gguf_name(name: str) -> str:
    stem = name.removesuffix(".weight")
    if stem in OUTER:
        return f"{OUTER[stem]}.weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{INNER[rest]}.weight"


def write_gguf(
    file: Path,
    llama: Llama,
    weights: Weights,
    *,
    architecture: str = "llama",
    split: str = "smollm",
    quantized: str = "",
) -> Path:
    writer = gguf.GGUFWriter(file, architecture)
    writer.add_block_count(llama.num_layers)
    writer.add_head_count(llama.num_heads)
    writer.add_head_count_kv(llama.num_kv_heads)
    writer.add_embedding_length(llama.hidden_size)
    writer.add_feed_forward_length(llama.intermediate_size)
    writer.add_vocab_size(llama.vocab_size)
    writer.add_context_length(llama.context_tokens)
    writer.add_layer_norm_rms_eps(llama.norm_epsilon)
    writer.add_rope_freq_base(llama.rope_theta)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(split)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3] * 3 + [1] * (len(TOKENS) - 3))
    writer.add_token_merges(MERGES)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(llama.bos_token_id)
    writer.add_eos_token_id(llama.eos_token_id)
    writer.add_pad_token_id(llama.pad_token_id)
    writer.add_chat_template(TEMPLATE)
    for name, weight in weights.items():
        rows = permuted(llama, name, weight)
        if name == quantized:
            writer.add_tensor(gguf_name(name), gguf.quantize(rows, Q4_1), raw_dtype=Q4_1)
        else:
            writer.add_tensor(gguf_name(name), rows)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
