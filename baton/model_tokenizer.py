"""The tokenizer of a GGUF model: byte-level BPE, written as the `tokenizers` library reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from baton.model_errors import BadModelFile

CONTROL_TOKEN = 3  # gguf.TokenType.CONTROL


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What GGUF knows of a tokenizer; `kinds` are its token types, `split` its pre-tokenizer."""

    tokens: Sequence[str]
    kinds: Sequence[int]
    merges: Sequence[str]
    split: str
    bos: int
    eos: int
    unknown: int
    padding: int
    chat_template: str


def write_tokenizer(vocabulary: Vocabulary, context_tokens: int, folder: Path) -> None:
    """Writes tokenizer.json, tokenizer_config.json and chat_template.jinja.

    Raises BadModelFile for a pre-tokenizer that is not known here, or a vocabulary with holes.
    """
    tokenizer = build_tokenizer(vocabulary)
    if tokenizer.get_vocab_size() != len(vocabulary.tokens):
        raise BadModelFile(folder.name, "two tokens of its vocabulary are the same")
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": vocabulary.tokens[vocabulary.bos],
        "eos_token": vocabulary.tokens[vocabulary.eos],
        "unk_token": vocabulary.tokens[vocabulary.unknown],
        "pad_token": vocabulary.tokens[vocabulary.padding],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context_tokens,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "chat_template.jinja").write_text(vocabulary.chat_template)


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    if vocabulary.split != "smollm":
        raise BadModelFile(
            "GGUF", f"its pre-tokenizer {vocabulary.split!r} is not known here, only 'smollm' is"
        )
    ids = {token: number for number, token in enumerate(vocabulary.tokens)}
    merges = [_pair(merge) for merge in vocabulary.merges]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
    # Each digit is a token of its own, as in llama.cpp's "smollm" and in the model's training.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [
            AddedToken(token, normalized=False, special=True)
            for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
            if kind == CONTROL_TOKEN
        ]
    )
    return tokenizer


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    return left, right
