"""What a gateway tells of its workers and of itself."""

from __future__ import annotations

import re

import msgspec

METRIC = re.compile(r"^(?P<name>[\w:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")


class Transfers(msgspec.Struct, frozen=True):
    """As in proto/worker.proto."""

    open_sends: int
    open_loads: int
    staging_bytes: int
    sent_bytes: int
    received_bytes: int
    sends_completed: int
    sends_failed: int
    loads_completed: int
    loads_failed: int
    late_segments: int
    load_seconds: float
    exposed_seconds: float


class Tickets(msgspec.Struct, frozen=True):
    """As in proto/worker.proto."""

    num_open: int
    num_bytes: int
    next_deadline_seconds: float
    refused: dict[str, int]


class Offloads(msgspec.Struct, frozen=True):
    """As in proto/worker.proto."""

    stored_bytes: int
    loaded_bytes: int
    loads: int
    written_bytes: int
    read_bytes: int


class Load(msgspec.Struct, frozen=True):
    num_running: int
    num_waiting: int
    num_kv_blocks: int
    num_kv_blocks_used: int
    transfers: Transfers
    tickets: Tickets
    offloads: Offloads


class WorkerReport(msgspec.Struct, frozen=True):
    worker_id: str
    incarnation: str
    role: str
    address: str
    state: str
    reason: str
    load: Load

    @property
    def holds(self) -> dict[str, int]:
        """What it has not given back, by name; empty if there is nothing."""
        moved = self.load.transfers
        held = {
            "running": self.load.num_running,
            "waiting": self.load.num_waiting,
            "blocks": self.load.num_kv_blocks_used,
            "sends": moved.open_sends,
            "loads": moved.open_loads,
            "staging": moved.staging_bytes,
            "tickets": self.load.tickets.num_open,
        }
        return {name: value for name, value in held.items() if value}


class FleetReport(msgspec.Struct, frozen=True):
    workers: tuple[WorkerReport, ...]

    def worker(self, role: str) -> WorkerReport:
        """The one that is ready."""
        (found,) = (each for each in self.workers if each.role == role and each.state == "ready")
        return found

    @property
    def prefill(self) -> WorkerReport:
        return self.worker("prefill")

    @property
    def decode(self) -> WorkerReport:
        return self.worker("decode")

    @property
    def sends_ended(self) -> int:
        """Hand-offs that the prefill worker is done with, well or not."""
        moved = self.prefill.load.transfers
        return moved.sends_completed + moved.sends_failed

    @property
    def holds(self) -> dict[str, dict[str, int]]:
        return {each.worker_id: each.holds for each in self.workers if each.holds}


class Metrics:
    """The samples of a page in Prometheus' text format."""

    def __init__(self, page: str) -> None:
        found = (METRIC.match(line) for line in page.splitlines() if not line.startswith("#"))
        self._samples = {(m["name"], m["labels"] or ""): float(m["value"]) for m in found if m}

    def value(self, name: str, labels: str = "") -> float:
        """`labels` as on the page: 'stage="prefill"'. Raises KeyError."""
        return self._samples[name, labels]

    def handoffs(self, result: str) -> float:
        return self.value("baton_handoffs_total", f'result="{result}"')

    def stage_seconds(self, stage: str) -> float:
        """Summed over all requests."""
        return self._samples.get(("baton_stage_seconds_sum", f'stage="{stage}"'), 0.0)

    def prompt_tokens(self) -> dict[str, int]:
        """vLLM's own count, by where the decode worker had their KV from."""
        sources = ("local_compute", "local_cache_hit", "external_kv_transfer")
        return {source: self._prompt_tokens_from(source) for source in sources}

    def _prompt_tokens_from(self, source: str) -> int:
        return sum(
            int(value)
            for (name, labels), value in self._samples.items()
            if name == "vllm:prompt_tokens_by_source_total" and f'source="{source}"' in labels
        )
