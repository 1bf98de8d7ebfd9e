"""Which filters, scorers and pickers find a request's workers, and with what weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta

from gateway.errors import StartError
from gateway.routing.filters import FILTERS
from gateway.routing.pickers import PICKERS
from gateway.routing.scorers import SCORERS

Weight = Annotated[float, Meta(ge=0, le=1000)]


class ProfilePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One profile. Weights are by scorer."""

    filters: tuple[str, ...] = ("capacity",)
    scorers: dict[str, Weight] = {}
    picker: str = "best"


class RoutingPolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`prefill` finds the worker that computes a prompt, `decode` the one that takes its KV over,
    `local` the one that does both.
    """

    prefill: ProfilePolicy
    decode: ProfilePolicy
    local: ProfilePolicy


POLICIES: Mapping[str, RoutingPolicy] = MappingProxyType(
    {
        "default": RoutingPolicy(
            prefill=ProfilePolicy(
                scorers={"prefix": 1.0, "predicted": 0.7, "session": 0.02, "lora": 0.1}
            ),
            decode=ProfilePolicy(
                filters=("capacity", "credit"),
                scorers={
                    "pair": 1.0,
                    "step": 0.5,
                    "headroom": 1.0,
                    "idle": 0.3,
                    "prefix": 0.05,
                    "session": 0.1,
                    "lora": 0.1,
                },
            ),
            local=ProfilePolicy(
                scorers={
                    "predicted": 1.0,
                    "prefix": 0.5,
                    "step": 0.3,
                    "headroom": 0.3,
                    "session": 0.02,
                    "lora": 0.1,
                },
            ),
        ),
        "round-robin": RoutingPolicy(
            prefill=ProfilePolicy(picker="round-robin"),
            decode=ProfilePolicy(filters=("capacity", "credit"), picker="round-robin"),
            local=ProfilePolicy(picker="round-robin"),
        ),
        "least-loaded": RoutingPolicy(
            prefill=ProfilePolicy(scorers={"load": 1.0}),
            decode=ProfilePolicy(filters=("capacity", "credit"), scorers={"load": 1.0}),
            local=ProfilePolicy(scorers={"load": 1.0}),
        ),
        "prefix": RoutingPolicy(
            prefill=ProfilePolicy(scorers={"prefix": 1.0}),
            decode=ProfilePolicy(filters=("capacity", "credit"), scorers={"prefix": 1.0}),
            local=ProfilePolicy(scorers={"prefix": 1.0}),
        ),
    }
)


def read_policy(name: str) -> RoutingPolicy:
    """One of POLICIES, or a YAML file. Raises StartError naming what is wrong."""
    if name in POLICIES:
        return POLICIES[name]
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        raise StartError(f"--routing {name}: use one of {', '.join(POLICIES)}, or a .yaml file")
    try:
        policy = msgspec.convert(yaml.safe_load(path.read_text()), RoutingPolicy)
    except (OSError, UnicodeError, yaml.YAMLError, msgspec.ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartError(f"--routing {name}: {' '.join(str(reason).split())}") from error
    check_names(name, policy)
    return policy


def check_names(file: str, policy: RoutingPolicy) -> None:
    """Raises StartError for a plug-in that there is not."""
    for profile in (policy.prefill, policy.decode, policy.local):
        check_known(file, "filter", profile.filters, FILTERS)
        check_known(file, "scorer", profile.scorers, SCORERS)
        check_known(file, "picker", (profile.picker,), PICKERS)


def check_known(file: str, what: str, names: Iterable[str], known: Iterable[str]) -> None:
    for name in names:
        if name not in tuple(known):
            raise StartError(
                f"--routing {file}: there is no {what} {name!r}: use {', '.join(known)}"
            )
