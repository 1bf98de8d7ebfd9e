"""A fleet as a user starts it, with real engines."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import psutil

from baton.run_folder import RunFolder
from baton.run_state import RunState
from tests.system.exchange import Answered, ask, client
from tests.system.fleet_report import FleetReport, Metrics
from tests.system.processes import environment, is_alive, left_segments, marked, segments
from tests.system.prompts import Prompt
from tests.system.root import LAUNCH, ROOT
from tests.system.waiting import wait_until

START_SECONDS = 150.0
STOP_SECONDS = 15.0
FREE_SECONDS = 2.0


class LiveFleet:
    """`baton up` and everything that came of it. Its owner stops it."""

    def __init__(
        self, folder: Path, model: Path, *flags: str, variables: Mapping[str, str] | None = None
    ) -> None:
        """Starts it and waits until it serves."""
        self.model = "served"
        self.folder = RunFolder.at(folder / "run")
        self.segments_before = segments()
        self.output = folder / "up.log"
        self._mark = secrets.token_hex(8)
        words = ["up", "--state-dir", str(self.folder.path), "--model", str(model), "--port", "0"]
        # What is tested is the hand-off.
        words += ["--disaggregation", "always"]
        words += ["--served-model-name", self.model, *flags]
        folder.mkdir(parents=True, exist_ok=True)
        self.process = self._start(words, environment(self._mark, variables))
        try:
            wait_until(self._is_up, START_SECONDS, self.tail)
        except BaseException:
            self.close()
            raise

    @property
    def state(self) -> RunState:
        state = RunState.read(self.folder.state)
        assert state, self.tail()
        return state

    @property
    def url(self) -> str:
        return self.state.url

    def pid(self, name: str) -> int:
        """Of the process that is called so, like "prefill-0"."""
        (process,) = (each for each in self.state.processes if each.name == name)
        assert process.identity
        return process.identity.pid

    def serving_processes(self) -> list[psutil.Process]:
        """The gateway and the workers with their engines."""
        names = ("gateway", "prefill-0", "decode-0")
        parents = [psutil.Process(self.pid(name)) for name in names]
        return [each for parent in parents for each in (parent, *parent.children(recursive=True))]

    def living(self) -> dict[int, str]:
        """Every process that came of this fleet, by pid."""
        return marked(self._mark)

    def report(self) -> FleetReport:
        """Freshly asked of the workers."""
        with client() as http:
            answer = http.get(f"{self.url}/fleet/workers?fresh=1").raise_for_status()
        return msgspec.json.decode(answer.content, type=FleetReport)

    def metrics(self) -> Metrics:
        with client() as http:
            return Metrics(http.get(f"{self.url}/metrics").raise_for_status().text)

    def complete(self, prompt: Prompt, **more: Any) -> Answered:
        """The greedy completion of `prompt`."""
        return ask(f"{self.url}/v1/completions", self.body(prompt, **more))

    def body(self, prompt: Prompt, **more: Any) -> dict[str, Any]:
        salt = {"cache_salt": prompt.salt} if prompt.salt else {}
        return {
            "model": self.model,
            "prompt": prompt.ids,
            "max_tokens": prompt.max_tokens,
            "ignore_eos": True,
            **salt,
            **more,
        }

    def wait_until_free(self, sends_ended: int | None = None) -> float:
        """Until no engine holds anything: how long it took, in seconds.

        `sends_ended`: how many hand-offs the prefill worker must be done with, so that no
        report from before them can be taken for an answer.
        """
        seen: list[FleetReport] = []

        def is_free() -> bool:
            seen.append(self.report())
            report = seen[-1]
            return not report.holds and (sends_ended is None or report.sends_ended == sends_ended)

        return wait_until(is_free, FREE_SECONDS, lambda: f"still held: {seen[-1].holds}")

    def interrupt(self) -> int:
        """As Ctrl-C does; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def assert_nothing_left(self, lived: Iterable[int]) -> None:
        """Of the processes that `lived`, and of any other."""
        assert self.living() == {}
        assert not any(map(is_alive, lived))
        assert left_segments(self.segments_before) == set()
        assert not self.folder.socket.exists()
        assert not self.folder.state.exists()

    def close(self) -> None:
        """Ends it in order, and whatever then still stands."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.living():
            os.kill(pid, signal.SIGKILL)

    def tail(self) -> str:
        return self.output.read_text()[-2000:] + f"(logs: {self.folder.logs})"

    def _start(self, words: list[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        command = [sys.executable, str(LAUNCH), str(os.getpid()), cores]
        with self.output.open("wb") as output:
            return subprocess.Popen(
                [*command, sys.executable, "-m", "baton", *words],
                cwd=ROOT,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.tail()
        state = RunState.read(self.folder.state)
        return bool(state and state.is_up)
