"""Every kind of trace, by the word or the file's ending that names it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from loadtest.replay.agents import Agents
from loadtest.replay.azure import read_azure
from loadtest.replay.errors import BadInput
from loadtest.replay.mooncake import read_mooncake
from loadtest.replay.multi_turn import MultiTurn
from loadtest.replay.trace import TraceRequest

FILES: Mapping[str, Callable[[Path], Sequence[TraceRequest]]] = {
    ".jsonl": read_mooncake,
    ".csv": read_azure,
}
SYNTHETIC: Mapping[str, type[MultiTurn | Agents]] = {"multi-turn": MultiTurn, "agents": Agents}


def load_trace(trace: str, seed: int) -> Sequence[TraceRequest]:
    """`trace` is a file or `NAME:SETTING=N,...`. Raises BadInput."""
    name, _, settings = trace.partition(":")
    if name in SYNTHETIC:
        return synthetic(name, settings).make(seed)
    path = Path(trace)
    if path.suffix not in FILES:
        kinds = [f"a {suffix} file" for suffix in FILES] + [f"{name}:..." for name in SYNTHETIC]
        raise BadInput(f"a trace is {', '.join(kinds[:-1])} or {kinds[-1]}, not {trace!r}")
    try:
        requests = FILES[path.suffix](path)
    except (OSError, UnicodeError) as error:
        raise BadInput(f"{trace}: {getattr(error, 'strerror', None) or error}") from error
    if not requests:
        raise BadInput(f"{trace} holds no request")
    return requests


def synthetic(name: str, settings: str) -> MultiTurn | Agents:
    """Raises BadInput."""
    usual: Any = SYNTHETIC[name]()
    kinds = {field.name: type(getattr(usual, field.name)) for field in fields(usual)}
    values: dict[str, float] = {}
    for word in filter(None, settings.split(",")):
        key, _, text = word.partition("=")
        if key not in kinds:
            raise BadInput(f"{name} has no setting {key!r}; it has {', '.join(kinds)}")
        try:
            values[key] = kinds[key](text)
        except ValueError as error:
            raise BadInput(f"{name}: {key} is {kinds[key].__name__}, not {text!r}") from error
        if values[key] < 0 or (values[key] == 0 and key not in ("think", "skew")):
            raise BadInput(f"{name}: {key} must be above 0, not {text}")
    made: MultiTurn | Agents = replace(usual, **values)
    return made
