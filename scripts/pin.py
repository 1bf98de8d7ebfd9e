"""Resolves the dependencies afresh into constraints/cpu.txt and constraints/gpu.txt.

    .venv/bin/python -m scripts.pin

Nothing is installed by it. Try the result with `make clean check` before you commit it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from scripts.registry import environment_for_uv

LOWEST_PYTHON = "3.11"
PLATFORM = "x86_64-manylinux_2_28"


def pin(extra: str) -> None:
    """Raises CalledProcessError when there is no solution; uv has said why."""
    overrides = Path(f"constraints/{extra}-overrides.txt")
    python = Path(sys.executable)
    env = environment_for_uv(python)
    if extra == "gpu":
        # A folder of wheels may hold a CPU build of torch, whose version counts as the higher.
        env.pop("UV_FIND_LINKS", None)
    options = ["--extra", extra, "--extra", "nixl", "--group", "dev", "--upgrade", "--quiet"]
    options += ["--python-version", LOWEST_PYTHON, "--python-platform", PLATFORM]
    # No index, folder or header: a constraints file holds names and versions only.
    options += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-emit-find-links"]
    if overrides.is_file():
        options += ["--overrides", str(overrides)]
    output = f"constraints/{extra}.txt"
    subprocess.run(
        [python, "-m", "uv", "pip", "compile", "pyproject.toml", *options, "-o", output],
        env=env,
        stdout=subprocess.DEVNULL,
        check=True,
    )


if __name__ == "__main__":
    for extra in ("cpu", "gpu"):
        pin(extra)
