"""Settings from flags, environment and a file, each over the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from baton.errors import BadSettings
from fleet.url import redacted

ENV_PREFIX = "BATON_"
# Near enough to a setting's name to be a slip of it, not a variable of some other program.
SLIP_CUTOFF = 0.9

Settings = TypeVar("Settings", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Layer:
    """Values by field name. `spelling` says how its user writes a key: "--{flag}"."""

    values: Mapping[str, object]
    spelling: str

    def spell(self, key: str) -> str:
        return self.spelling.format(key=key, flag=key.replace("_", "-"), variable=key.upper())


def load(
    kind: type[Settings],
    flags: Mapping[str, str],
    environment: Mapping[str, str],
    config: Path | None = None,
) -> Settings:
    """Flags over environment over file over defaults.

    Raises BadSettings with every bad key, as its user wrote it.
    """
    layers = [
        Layer(flags, "--{flag}"),
        Layer(from_environment(kind, environment), ENV_PREFIX + "{variable}"),
    ]
    if config:
        layers.append(Layer(from_file(kind, config), f"{{key}} in {config}"))
    try:
        return kind.model_validate(merged(layers))
    except ValidationError as error:
        problems = (describe(problem, layers) for problem in error.errors())
        raise BadSettings("; ".join(problems)) from error


def merged(layers: list[Layer]) -> dict[str, object]:
    return {key: value for layer in reversed(layers) for key, value in layer.values.items()}


def from_environment(kind: type[BaseModel], environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that name a field; an empty one is unset. Raises BadSettings for a slip."""
    ours = {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENV_PREFIX)
    }
    for key in ours.keys() - kind.model_fields.keys():
        if meant := get_close_matches(key, kind.model_fields, 1, SLIP_CUTOFF):
            name = f"{ENV_PREFIX}{key.upper()}"
            raise BadSettings(f"{name} sets nothing; {ENV_PREFIX}{meant[0].upper()} is a setting")
    return {key: value for key, value in ours.items() if key in kind.model_fields and value}


def from_file(kind: type[BaseModel], path: Path) -> dict[str, object]:
    """The keys of a YAML mapping; a key with no value is unset. Raises BadSettings."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadSettings(f"--config {path}: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise BadSettings(f"--config {path} is not YAML: {problem}") from error
    if not isinstance(content or {}, dict):
        raise BadSettings(f"--config {path} must hold `key: value` lines")
    values = {str(key): value for key, value in (content or {}).items()}
    for key in values.keys() - kind.model_fields.keys():
        meant = get_close_matches(key, kind.model_fields, 1)
        hint = f"; did you mean {meant[0]}?" if meant else ""
        raise BadSettings(f"{key} in {path} is not a setting{hint}")
    return {key: value for key, value in values.items() if value is not None}


def describe(problem: ErrorDetails, layers: list[Layer]) -> str:
    key = str(problem["loc"][0])
    layer = next(layer for layer in layers if key in layer.values)
    reason = problem["msg"].removeprefix("Value error, ")
    # A URL may hold a password.
    value = redacted(str(problem["input"])) if key == "redis" else problem["input"]
    return f"{layer.spell(key)} {value!r}: {reason[0].lower()}{reason[1:]}"
