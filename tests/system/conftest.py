from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from tests.system.layout import Layout
from tests.system.live_fleet import LiveFleet
from tests.system.plain_engine import Answers
from tests.system.reference import ask
from tests.system.stage import Stage

DTYPE = "float32"
FLAGS = ("--dtype", DTYPE)
# Engines start once if these come in this order: none, the fleet, then what ends or spoils it.
ORDER = (
    *(None, "reference", "fleet", "last_of_fleet", "corrupting_fleet"),
    *("falsifying_fleet", "offloading_fleet"),
    *("nixl_fleet", "last_of_nixl_fleet"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the whole system come last, and those of one fleet together."""
    items.sort(key=rank)


def rank(item: pytest.Item) -> int:
    if not item.get_closest_marker("system"):
        return -1
    names = getattr(item, "fixturenames", ())
    return max(i for i, name in enumerate(ORDER) if name is None or name in names)


@pytest.fixture(scope="session")
def model() -> Path:
    return ensure_model(DEFAULT_MODEL, models_dir(os.environ), lambda line: None)


@pytest.fixture(scope="session")
def layout(model: Path) -> Layout:
    return Layout.of(model, DTYPE)


@pytest.fixture(scope="session")
def reference(model: Path, stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """From plain engines that have ended by then."""
    stage.clear()
    return ask(model, DTYPE, tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def stage(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(tmp_path_factory.mktemp("fleets"), model)
    yield stage
    stage.clear()


@pytest.fixture
def fleet(stage: Stage, reference: Answers) -> LiveFleet:
    return stage.show("plain", *FLAGS)


@pytest.fixture
def last_of_fleet(fleet: LiveFleet) -> LiveFleet:
    """The fleet, for a test that ends it."""
    return fleet


def faulty(fault: str) -> dict[str, str]:
    return {"BATON_KV_FAULT": fault, "BATON_TESTING": "1"}


@pytest.fixture
def corrupting_fleet(stage: Stage, reference: Answers) -> LiveFleet:
    """What its prefill worker sends is changed on its way."""
    return stage.show("corrupting", *FLAGS, variables=faulty("corrupt"))


@pytest.fixture
def falsifying_fleet(stage: Stage, reference: Answers) -> LiveFleet:
    """Its prefill worker changes the KV before it seals it."""
    return stage.show("falsifying", *FLAGS, variables=faulty("falsify"))


@pytest.fixture
def offloading_fleet(
    stage: Stage, reference: Answers, tmp_path_factory: pytest.TempPathFactory
) -> LiveFleet:
    """Its caches are small, and its prefill worker keeps what leaves its own."""
    folder = tmp_path_factory.getbasetemp() / "cold"
    return stage.show(
        "offloading",
        *FLAGS,
        *("--max-model-len", "4096", "--engine-args=--num-gpu-blocks-override 34"),
        *("--offload-gib", "0.1", "--offload-folder", str(folder), "--offload-folder-gib", "0.5"),
    )


@pytest.fixture
def nixl() -> None:
    if find_spec("nixl") is None:
        pytest.skip("NIXL is not installed: make setup NIXL=1")


@pytest.fixture
def nixl_fleet(nixl: None, stage: Stage, reference: Answers) -> LiveFleet:
    return stage.show("nixl", *FLAGS, "--kv-connector", "nixl")


@pytest.fixture
def last_of_nixl_fleet(nixl_fleet: LiveFleet) -> LiveFleet:
    """The fleet, for a test that ends it."""
    return nixl_fleet
