"""One stage of the set-up: what it makes, when it is done, and how it shows on the screen."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO


class SetupError(Exception):
    """A tool failed; its output is in the log."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Done when its stamp holds `key`, a digest of what it depends on, and all it makes exists."""

    name: str
    title: str
    key: str
    run: Callable[[Tools], None]
    makes: tuple[Path, ...] = ()

    def is_done(self, stamps: Path) -> bool:
        stamp = stamps / self.name
        return (
            stamp.is_file()
            and stamp.read_text() == self.key
            and all(path.exists() for path in self.makes)
        )

    def carry_out(self, number: int, count: int, log: Path, stamps: Path) -> None:
        """Raises SetupError. Only success leaves a stamp, so that a broken stage runs again."""
        (stamps / self.name).unlink(missing_ok=True)
        label = f"[{number}/{count}] {self.name:<9} {self.title:<55} "
        with log.open("a") as output:
            tools = Tools(label, log, output, time.monotonic())
            tools.show("")
            try:
                self.run(tools)
            except SetupError:
                tools.show("failed", end="\n")
                raise
            tools.show(f"{tools.seconds:.1f} s", end="\n")
        stamps.mkdir(parents=True, exist_ok=True)
        (stamps / self.name).write_text(self.key)


@dataclass(frozen=True, slots=True)
class Tools:
    """Runs noisy tools into the log; a terminal shows meanwhile that they live."""

    label: str
    log: Path
    output: TextIO
    started: float

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started

    def run(self, *argv: str | Path, env: Mapping[str, str] | None = None) -> None:
        """Raises SetupError unless the tool succeeds."""
        if not self.succeeds(*argv, env=env):
            raise SetupError

    def succeeds(self, *argv: str | Path, env: Mapping[str, str] | None = None) -> bool:
        self.output.write(f"\n$ {' '.join(map(str, argv))}\n")
        self.output.flush()
        with subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=self.output, stderr=subprocess.STDOUT
        ) as process:
            while True:
                try:
                    return process.wait(timeout=0.5) == 0
                except subprocess.TimeoutExpired:
                    self.show(f"{self.seconds:.0f} s  {doing(last_line(self.log))}")

    def show(self, state: str, end: str = "") -> None:
        """A terminal's line is drawn over and over; elsewhere only the last state is printed."""
        if sys.stdout.isatty():
            line = f"{self.label}{state}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r{line}\x1b[K", end=end, flush=True)
        elif end:
            print(f"{self.label}{state}", end=end, flush=True)


def digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def doing(line: str) -> str:
    """What a tool says that it does just now, if this is what the line is about."""
    return line if line.startswith(("Building", "Downloading", "Installing", "Preparing")) else ""


def last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 500))
        lines = file.read().decode(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
