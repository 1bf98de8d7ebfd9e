"""One plain vLLM engine, with none of our code around it: what the right answers are.

    python -m tests.system.plain_engine MODEL < questions > answers

A program of its own, so that its memory and its core are free again when it ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import msgspec

from tests.system.prompts import BLOCK_SIZE, CHUNK_TOKENS, MAX_MODEL_LEN, Conversation, Prompt

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    # No process beside this one.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


class Questions(msgspec.Struct, frozen=True):
    """What goes in."""

    dtype: str
    prompts: tuple[Prompt, ...]
    conversations: tuple[Conversation, ...]


class Answer(msgspec.Struct, frozen=True):
    """`prompt_ids` are the prompt's tokens, as the chat template makes them if it is a chat."""

    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    text: str


class Answers(msgspec.Struct, frozen=True):
    """What comes out, by the names of prompts and conversations; an answer for each turn."""

    prompts: dict[str, Answer]
    conversations: dict[str, tuple[Answer, ...]]


def main() -> None:
    os.environ.update(ENVIRONMENT)
    # vLLM writes to stdout, so the answers go out by a descriptor of their own.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    questions = msgspec.json.decode(sys.stdin.buffer.read(), type=Questions)
    with out:
        out.write(msgspec.json.encode(answer(sys.argv[1], questions)))


def answer(model: str, questions: Questions) -> Answers:
    """Greedily, one after the other."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        model,
        dtype=questions.dtype,
        enforce_eager=True,
        block_size=BLOCK_SIZE,
        max_num_batched_tokens=CHUNK_TOKENS,
        max_model_len=MAX_MODEL_LEN,
    )

    def complete(prompt: Prompt) -> Answer:
        sampling = SamplingParams(temperature=0.0, max_tokens=prompt.max_tokens, ignore_eos=True)
        inputs = {"prompt_token_ids": list(prompt.ids)}
        (found,) = engine.generate([inputs], sampling, use_tqdm=False)
        return Answer(prompt.ids, tuple(found.outputs[0].token_ids), found.outputs[0].text)

    def converse(conversation: Conversation) -> Iterator[Answer]:
        sampling = SamplingParams(temperature=0.0, max_tokens=conversation.max_tokens)
        messages = []
        for said in conversation.turns:
            messages.append({"role": "user", "content": said})
            (found,) = engine.chat([messages], sampling, use_tqdm=False)
            text = found.outputs[0].text
            yield Answer(tuple(found.prompt_token_ids), tuple(found.outputs[0].token_ids), text)
            messages.append({"role": "assistant", "content": text})

    return Answers(
        {prompt.name: complete(prompt) for prompt in questions.prompts},
        {each.name: tuple(converse(each)) for each in questions.conversations},
    )


if __name__ == "__main__":
    main()
