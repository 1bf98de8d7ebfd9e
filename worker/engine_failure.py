"""Why an engine did not start, in one line."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from types import MappingProxyType

MAX_LENGTH = 300

# What vLLM says, and what our user can do about it.
HINTS: Mapping[str, str] = MappingProxyType(
    {
        "KV cache is needed": "use a larger --kv-cache-gib or a smaller --max-model-len",
        "No available memory for the cache blocks": "use a larger --kv-cache-gib",
        "requested memory for kv": "use a smaller --kv-cache-gib",
        "User-specified max_model_len": "use a smaller --max-model-len",
        "out of memory": "use a smaller model, or a GPU with more memory",
        "can't allocate memory": "use a smaller --kv-cache-gib or a smaller model",
    }
)
# pydantic's way to say which class and field it refused.
PYDANTIC = re.compile(r"\d+ validation errors? for \S+\n(?:\S+\n)?\s*(?:Value error, )?")
SENTENCE_END = re.compile(r"\.(?: [A-Z]|$)")
EXIT_CODE = re.compile(r"Failed core proc\(s\): \{'[^']*': (-?\d+)")


def one_line(error: BaseException) -> str:
    """What it says first; where we know a way out, that instead of what follows."""
    text = PYDANTIC.sub("", str(error), count=1).strip()
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    line = line.partition(" [type=")[0][:MAX_LENGTH] or type(error).__name__
    for sign, hint in HINTS.items():
        if sign in text:
            return f"{SENTENCE_END.split(line, maxsplit=1)[0]}; {hint}"
    return line.rstrip(".")


def cause_of(error: BaseException, reported: str | None) -> str:
    """Why the engine's process ended: what it `reported` itself, or how it exited."""
    if reported:
        return reported
    if found := EXIT_CODE.search(str(error)):
        return exit_reason(int(found[1]))
    return one_line(error)


def exit_reason(exit_code: int) -> str:
    if exit_code == -signal.SIGKILL:
        return "its process was killed, most likely for want of memory"
    if exit_code < 0:
        return f"its process was ended by {signal.Signals(-exit_code).name}"
    return f"its process exited with code {exit_code}; its log says why"
