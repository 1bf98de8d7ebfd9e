"""Turns a Llama model in GGUF into a folder that any loader takes: bf16 safetensors and tokenizer.

Names and metadata keys of GGUF: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, ReaderTensor, dequantize
from numpy.typing import NDArray
from safetensors import TensorSpec, safe_open, serialize_file

from baton.model_errors import BadModelFile
from baton.model_llama import Llama
from baton.model_tokenizer import Vocabulary, write_tokenizer

OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
INNER = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def convert(file: Path, folder: Path) -> None:
    """Writes the model of `file` into the empty `folder`. Raises BadModelFile."""
    try:
        reader = GGUFReader(file)
        llama = read_llama(reader)
        vocabulary = read_vocabulary(reader)
    except (ValueError, IndexError):
        raise BadModelFile(file.name, "it cannot be read as GGUF") from None
    except KeyError as error:
        raise BadModelFile(file.name, f"its metadata lack {error}") from None
    write_weights(reader, llama, folder / "model.safetensors")
    write_tokenizer(vocabulary, llama.context_tokens, folder)
    (folder / "config.json").write_text(json.dumps(llama.config(), indent=2) + "\n")


def read_llama(reader: GGUFReader) -> Llama:
    """Raises KeyError with the missing key, or BadModelFile for another architecture."""
    architecture = _value(reader, "general.architecture")
    if architecture != "llama":
        raise BadModelFile("GGUF", f"its architecture is {architecture!r} and not 'llama'")
    return Llama(
        num_layers=_value(reader, "llama.block_count"),
        num_heads=_value(reader, "llama.attention.head_count"),
        num_kv_heads=_value(reader, "llama.attention.head_count_kv"),
        hidden_size=_value(reader, "llama.embedding_length"),
        intermediate_size=_value(reader, "llama.feed_forward_length"),
        vocab_size=_value(reader, "llama.vocab_size"),
        context_tokens=_value(reader, "llama.context_length"),
        norm_epsilon=_value(reader, "llama.attention.layer_norm_rms_epsilon"),
        rope_theta=_value(reader, "llama.rope.freq_base"),
        bos_token_id=_value(reader, "tokenizer.ggml.bos_token_id"),
        eos_token_id=_value(reader, "tokenizer.ggml.eos_token_id"),
        pad_token_id=_value(reader, "tokenizer.ggml.padding_token_id"),
        has_tied_embeddings=all(tensor.name != "output.weight" for tensor in reader.tensors),
    )


def read_vocabulary(reader: GGUFReader) -> Vocabulary:
    """Raises KeyError with the missing key."""
    return Vocabulary(
        tokens=_value(reader, "tokenizer.ggml.tokens"),
        kinds=_value(reader, "tokenizer.ggml.token_type"),
        merges=_value(reader, "tokenizer.ggml.merges"),
        split=_value(reader, "tokenizer.ggml.pre"),
        bos=_value(reader, "tokenizer.ggml.bos_token_id"),
        eos=_value(reader, "tokenizer.ggml.eos_token_id"),
        unknown=_value(reader, "tokenizer.ggml.unknown_token_id"),
        padding=_value(reader, "tokenizer.ggml.padding_token_id"),
        chat_template=_value(reader, "tokenizer.chat_template"),
    )


def write_weights(reader: GGUFReader, llama: Llama, file: Path) -> None:
    """Raises BadModelFile unless exactly the tensors of `llama` come out of it."""
    weights: dict[str, NDArray[np.uint16]] = {}
    for tensor in reader.tensors:
        name = tensor_name(tensor.name)
        weights[name] = bfloat16_bits(llama.unpermuted(name, _values(tensor)))
    specs = {
        name: TensorSpec(
            dtype="bfloat16",
            shape=bits.shape,
            data_ptr=bits.ctypes.data,
            data_len=bits.nbytes,
        )
        for name, bits in weights.items()
    }
    serialize_file(specs, file, {"format": "pt"})
    file.chmod(0o644)
    check_weights(file, llama)


def check_weights(file: Path, llama: Llama) -> None:
    """Compares the written file with what the configuration promises. Raises BadModelFile."""
    with safe_open(file, framework="numpy") as written:
        names = written.keys()
        found = {name: tuple(written.get_slice(name).get_shape()) for name in names}
    expected = llama.shapes()
    wrong = sorted(name for name, _ in found.items() ^ expected.items())
    if wrong:
        name = wrong[0]
        raise BadModelFile(
            file.name,
            f"{len(wrong)} tensors differ from its configuration, {name} among them: "
            f"{found.get(name, 'absent')} and not {expected.get(name, 'absent')}",
        )


def tensor_name(name: str) -> str:
    """Hugging Face's name of a GGUF tensor. Raises BadModelFile for one that Llama has not."""
    parts = name.removesuffix(".weight").split(".")
    if len(parts) == 1 and parts[0] in OUTER:
        return f"{OUTER[parts[0]]}.weight"
    if len(parts) == 3 and parts[0] == "blk" and parts[2] in INNER:
        return f"model.layers.{parts[1]}.{INNER[parts[2]]}.weight"
    raise BadModelFile("GGUF", f"its tensor {name} belongs to no Llama model")


def bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The upper half of each float32, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _values(tensor: ReaderTensor) -> NDArray[np.float32]:
    """GGUF counts dimensions from the innermost one."""
    shape = [int(size) for size in reversed(tensor.shape)]
    values: NDArray[np.float32] = dequantize(tensor.data, tensor.tensor_type).reshape(shape)
    if not np.isfinite(values).all():
        raise BadModelFile("GGUF", f"its tensor {tensor.name} has values that are not finite")
    return values


def _value(reader: GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()
