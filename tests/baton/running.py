"""A real `baton up` over stand-in workers and gateway, for the tests of the supervisor."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from baton.identity import PROC, ProcessStat
from baton.run_state import ProcessState, RunState

ROOT = Path(__file__).resolve().parents[2]
STANDINS = ROOT / "tests" / "baton" / "standins"
PATIENCE_SECONDS = 40.0
MARK = "BATON_TEST_RUN"


class Running:
    """One folder, its commands, and every process that came of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state_dir = folder / "run"
        self.model = make_model(folder / "tiny")
        self.segment = Path(f"/dev/shm/psm_{secrets.token_hex(4)}")
        self._mark = secrets.token_hex(8)
        self._ups: list[subprocess.Popen[str]] = []

    def up(self, *flags: str, standin: str = "") -> subprocess.Popen[str]:
        """Starts `baton up`; its stderr follows its stdout."""
        command = ["up", "--model", str(self.model), "--port", "0", *flags]
        process = subprocess.Popen(
            self._command(*command),
            cwd=self.folder,
            env=self._environment(standin),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._ups.append(process)
        return process

    def up_ready(self, *flags: str, standin: str = "") -> subprocess.Popen[str]:
        process = self.up(*flags, standin=standin)
        seen = read_until(process, "Ctrl-C stops it")
        assert any("Ctrl-C stops it" in line for line in seen), "".join(seen)
        return process

    def baton(self, *arguments: str, standin: str = "") -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            self._command(*arguments),
            cwd=self.folder,
            env=self._environment(standin),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def failing_up(self, *flags: str, standin: str = "") -> tuple[int, str]:
        """The exit code and the last line of an `up` that ends by itself."""
        process = self.up(*flags, standin=standin)
        output = process.communicate(timeout=PATIENCE_SECONDS)[0]
        return process.returncode, output.splitlines()[-1]

    @property
    def state(self) -> RunState:
        state = RunState.read(self.state_dir / "state.json")
        assert state
        return state

    def process(self, name: str) -> ProcessState:
        return next(process for process in self.state.processes if process.name == name)

    def pid(self, name: str) -> int:
        identity = self.process(name).identity
        assert identity
        return identity.pid

    def living(self) -> dict[int, str]:
        """Every process that any command of this run has started, by pid."""
        return dict(marked(self._mark))

    def assert_nothing_left(self) -> None:
        wait_until(lambda: not self.living(), lambda: f"still there: {self.living()}")
        assert not list(self.state_dir.glob("*.sock"))
        assert not (self.state_dir / "state.json").exists()
        assert not (self.state_dir / "fleet.key").exists()

    def close(self) -> None:
        """Whatever a failed test left."""
        for pid in self.living():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        for process in self._ups:
            process.wait()
            assert process.stdout
            process.stdout.close()
        self.segment.unlink(missing_ok=True)

    def _command(self, *arguments: str) -> list[str]:
        verb, *rest = arguments
        where = [] if verb == "key" else ["--state-dir", str(self.state_dir)]
        return [sys.executable, "-m", "baton", verb, *where, *rest]

    def _environment(self, standin: str) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("BATON_")}
        return ours | {
            "PYTHONPATH": f"{STANDINS}{os.pathsep}{ROOT}",
            "STANDIN": standin,
            "STANDIN_SEGMENT": str(self.segment),
            MARK: self._mark,
        }


def make_model(folder: Path) -> Path:
    """Complete for every check that is made before an engine starts."""
    folder.mkdir()
    (folder / "config.json").write_text('{"torch_dtype": "bfloat16"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"\0" * 1024)
    return folder


def read_until(process: subprocess.Popen[str], words: str) -> list[str]:
    """The lines up to the one that holds the words, or to the last."""
    assert process.stdout
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line)
        if words in line:
            break
    return seen


def wait_until(holds: Callable[[], object], complaint: Callable[[], str]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, complaint()
        time.sleep(0.01)


def marked(mark: str) -> Iterator[tuple[int, str]]:
    """Processes whose environment holds the mark, and that have not ended."""
    needle = f"{MARK}={mark}".encode()
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            is_marked = needle in (entry / "environ").read_bytes()
            name = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        stat = ProcessStat.read(int(entry.name))
        if is_marked and stat and not stat.is_dead:
            yield int(entry.name), name
