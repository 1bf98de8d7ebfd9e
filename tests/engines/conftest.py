from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.engines.pair import Engine, Hosts
from tests.engines.tiny_models import VOCABULARY, make_model

StartEngine = Callable[..., Engine]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model, by its name."""
    made: dict[str, Path] = {}

    def model(name: str) -> Path:
        if name not in made:
            made[name] = make_model(name, tmp_path_factory.mktemp(name))
        return made[name]

    return model


@pytest.fixture(scope="module")
def start(
    models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartEngine]:
    """Starts engines by their model's name, which run until the module's tests have."""
    hosts = Hosts(tmp_path_factory.mktemp("fleet"))
    with ExitStack() as stack:
        yield lambda name, **options: stack.enter_context(hosts.start(models(name), **options))


def make_prompt(seed: int, num_tokens: int) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(3, VOCABULARY) for _ in range(num_tokens)]
