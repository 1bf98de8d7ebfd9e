"""What a simulated engine needs of the model that it stands for: its shape and some words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proto.layout import KvLayout
from worker.errors import BadModel
from worker.model_folder import ModelFolder
from worker.sim.answer import TokenRange

# Printable ASCII, maybe after a space, as byte-level and SentencePiece vocabularies write it.
ORDINARY = re.compile("[Ġ▁]?[!-~]+")


@dataclass(frozen=True, slots=True)
class SimModel:
    """`answers`: what answers are made of."""

    layout: KvLayout
    max_model_len: int
    vocab_size: int
    answers: TokenRange

    @classmethod
    def of(cls, folder: ModelFolder, block_size: int, max_model_len: int | None) -> SimModel:
        """Raises BadModel."""
        try:
            config = json.loads(folder.config)
            vocab_size, longest = config["vocab_size"], config["max_position_embeddings"]
            layout = layout_of(config, block_size)
        except (ValueError, KeyError, TypeError) as error:
            kind = type(error).__name__
            raise BadModel(f"{folder.path}: config.json: {kind}: {error}") from error
        answers = token_range(folder.path, vocab_size)
        return cls(layout, max_model_len or longest, vocab_size, answers)


def layout_of(config: Mapping[str, Any], block_size: int) -> KvLayout:
    """Raises KeyError and ValueError."""
    stages = (config["num_hidden_layers"],)
    dtype = config.get("dtype") or config.get("torch_dtype") or "bfloat16"
    if latent := config.get("kv_lora_rank"):
        size = latent + config["qk_rope_head_dim"]
        return KvLayout(block_size, 1, size, size, dtype, stages)
    num_heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // num_heads
    num_kv_heads = config.get("num_key_value_heads") or num_heads
    return KvLayout(block_size, num_kv_heads, 2 * head_size, head_size, dtype, stages)


def token_range(folder: Path, vocab_size: int) -> TokenRange:
    """The longest run of ids whose tokens are ordinary text; without a vocabulary, the middle."""
    try:
        vocabulary = json.loads((folder / "tokenizer.json").read_bytes())["model"]["vocab"]
        ids = sorted(id_ for text, id_ in vocabulary.items() if ORDINARY.fullmatch(text))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        ids = []
    return longest_run(ids) or TokenRange(vocab_size // 4, max(1, vocab_size // 2))


def longest_run(ids: Iterable[int]) -> TokenRange | None:
    """Of ascending ids; None if there are none."""
    best: TokenRange | None = None
    run: TokenRange | None = None
    for each in ids:
        follows = run is not None and each == run.first + run.count
        run = TokenRange(run.first, run.count + 1) if run and follows else TokenRange(each, 1)
        if best is None or run.count > best.count:
            best = run
    return best
