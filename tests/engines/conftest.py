from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.engines.pair import Engine, Hosts
from tests.engines.tiny_models import VOCABULARY, make_model

StartEngine = Callable[..., Engine]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model, by its name."""
    made: dict[str, Path] = {}

    def model(name: str) -> Path:
        if name not in made:
            made[name] = make_model(name, tmp_path_factory.mktemp(name))
        return made[name]

    return model


@pytest.fixture
def start(
    models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartEngine]:
    """Starts engines by their model's name, which run until the test has."""
    with engines_of(models, tmp_path_factory) as starter:
        yield starter


@pytest.fixture(scope="module")
def start_for_all(
    models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartEngine]:
    """The same, until the module's tests have."""
    with engines_of(models, tmp_path_factory) as starter:
        yield starter


@contextmanager
def engines_of(
    models: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartEngine]:
    hosts = Hosts(tmp_path_factory.mktemp("fleet"))
    running: list[Engine] = []
    with ExitStack() as stack:

        def start(name: str, **options: Any) -> Engine:
            running.append(stack.enter_context(hosts.start(models(name), **options)))
            return running[-1]

        yield start
        for engine in running:  # all at once, not one after the other
            engine.stop()


def make_prompt(seed: int, num_tokens: int) -> list[int]:
    dice = random.Random(seed)
    return [dice.randrange(3, VOCABULARY) for _ in range(num_tokens)]
