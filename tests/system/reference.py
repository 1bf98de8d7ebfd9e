"""What plain vLLM answers to everything that the fleet is asked."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from tests.system.plain_engine import Answers, Questions
from tests.system.prompts import CONVERSATIONS, PROMPTS, Prompt
from tests.system.root import LAUNCH, ROOT

PATIENCE_SECONDS = 300.0


def ask(model: Path, dtype: str, logs: Path) -> Answers:
    """One engine per core, each with its share of the questions, and none afterwards."""
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        engines = [
            stack.enter_context(running(model, core, questions, logs / f"plain-{core}.log"))
            for core, questions in zip(cores, shares(dtype, len(cores)), strict=True)
        ]
        return merge([collect(engine) for engine in engines])


def shares(dtype: str, num_engines: int) -> list[Questions]:
    """About the same number of tokens each; what begins alike stays together."""
    families: dict[tuple[int, ...], list[Prompt]] = {}
    for prompt in PROMPTS:
        families.setdefault(prompt.ids[:1], []).append(prompt)
    each: list[list[Prompt]] = [[] for _ in range(num_engines)]
    for family in sorted(families.values(), key=num_tokens, reverse=True):
        min(each, key=num_tokens).extend(family)
    talks = [CONVERSATIONS, *[()] * (num_engines - 1)]
    return [
        Questions(dtype, tuple(prompts), talk)
        for prompts, talk in zip(sorted(each, key=num_tokens), talks, strict=True)
    ]


def num_tokens(prompts: Sequence[Prompt]) -> int:
    return sum(len(prompt.ids) for prompt in prompts)


@contextmanager
def running(
    model: Path, core: int, questions: Questions, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.system.plain_engine", str(model)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, str(LAUNCH), str(os.getpid()), str(core), *command],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as engine,
    ):
        try:
            assert engine.stdin
            with engine.stdin as questions_in:
                questions_in.write(msgspec.json.encode(questions))
            yield engine
        finally:
            engine.kill()


def collect(engine: subprocess.Popen[bytes]) -> Answers:
    assert engine.stdout
    answers = engine.stdout.read()
    assert engine.wait(PATIENCE_SECONDS) == 0, "the plain engine failed; see its log"
    return msgspec.json.decode(answers, type=Answers)


def merge(parts: Sequence[Answers]) -> Answers:
    return Answers(
        {name: answer for part in parts for name, answer in part.prompts.items()},
        {name: turns for part in parts for name, turns in part.conversations.items()},
    )
