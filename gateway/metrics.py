"""What the gateway counts, and what of vLLM's own metrics makes sense without an engine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fleet.contact import Contact
from gateway.request_life import Costs, Handoff, Outcome, RequestLife
from gateway.routing.way import Way
from gateway.shared_metrics import Shared, shared_folder
from gateway.worker_link import WorkerLink
from proto import worker_pb2

CONTENT_TYPE = CONTENT_TYPE_LATEST.encode()
SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
REFUSED = "refused"
YES_OR_NO = ("no", "yes")
NO_COSTS = Costs()

# The front half's own view. Left out: what it would say of one engine's queue and cache.
KEPT_OF_VLLM = frozenset(
    f"vllm:{name}"
    for name in (
        "prompt_tokens",
        "prompt_tokens_by_source",
        "generation_tokens",
        "request_success",
        "request_prompt_tokens",
        "request_generation_tokens",
        "request_params_n",
        "request_params_max_tokens",
        "time_to_first_token_seconds",
        "inter_token_latency_seconds",
        "request_time_per_output_token_seconds",
        "e2e_request_latency_seconds",
        "request_queue_time_seconds",
        "request_prefill_time_seconds",
        "request_decode_time_seconds",
        "request_inference_time_seconds",
    )
)
KEPT_OF_THE_PROCESS = ("process_", "python_")
OURS = "baton_"


class GatewayMetrics:
    """Counted once per request or answer, never per token."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "baton_requests",
            "Sequences asked for, by how they ended",
            ["outcome"],
            registry=self.registry,
        )
        self._stages = Histogram(
            "baton_stage_seconds",
            "From the arrival until it left the queue, the prefill leg, the first token and all "
            "was done",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._handoffs = Counter(
            "baton_handoffs",
            "How prompts' KV came to be on the decode worker",
            ["result"],
            registry=self.registry,
        )
        self._ways = Counter(
            "baton_requests_by_way",
            "Sequences by who computed the prompt, another worker or the decode worker; control: "
            "those that took the other way for comparison",
            ["way", "control"],
            registry=self.registry,
        )
        self._prompt = Counter(
            "baton_prompt_tokens",
            "Of prompts that were sent to workers",
            registry=self.registry,
        )
        self._cached = Counter(
            "baton_prompt_cached_tokens",
            "Those of them that the index took to be cached where they were sent",
            registry=self.registry,
        )
        self._answers = Counter(
            "baton_http_answers",
            "Answers by route and status; status 0: the client hung up first",
            ["route", "status"],
            registry=self.registry,
        )
        self._contact = Gauge(
            "baton_fleet_state_reachable",
            "1 if the last calls to the fleet's state succeeded, 0 if the gateway goes on without",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self._outage = Counter(
            "baton_fleet_state_outage_seconds",
            "Time without the fleet's state; of several processes, all together",
            registry=self.registry,
        )
        self._outage_told = 0.0
        for outcome in (*Outcome, REFUSED):
            self._requests.labels(outcome)
        for result in Handoff:
            self._handoffs.labels(result)
        for way in Way:
            for control in YES_OR_NO:
                self._ways.labels(way, control)

    def life_ended(self, life: RequestLife) -> None:
        self._requests.labels(life.outcome).inc()
        if life.handoff is not None:
            self._handoffs.labels(life.handoff).inc()
        self._count_route(life)
        submitted_at = life.submitted_at
        for stage, seconds in (
            ("queue", None if submitted_at is None else submitted_at - life.arrived_at),
            ("prefill", life.prefill_seconds),
            ("first_token", life.first_token_seconds),
            ("total", life.total_seconds),
        ):
            if seconds is not None:
                self._stages.labels(stage).observe(seconds)

    def _count_route(self, life: RequestLife) -> None:
        """Of a life that was sent to workers: where it went last."""
        if life.verdict is None or life.costs == NO_COSTS:
            return
        way = Way.REMOTE if life.source else Way.LOCAL
        is_control = life.verdict.is_control and life.verdict.way is way
        self._ways.labels(way, YES_OR_NO[is_control]).inc()
        num_tokens = life.request.num_prompt_tokens
        self._prompt.inc(num_tokens)
        self._cached.inc(max(0, num_tokens - life.costs.num_tokens))

    def refused(self) -> None:
        """There was nobody to take a request."""
        self._requests.labels(REFUSED).inc()

    def contact_changed(self, contact: Contact) -> None:
        """Or it goes on as it was."""
        self._contact.set(contact.is_made)
        seconds = contact.total_outage_seconds
        self._outage.inc(seconds - self._outage_told)
        self._outage_told = seconds

    def answered(self, route: str, status: int) -> None:
        self._answers.labels(route, str(status)).inc()

    def exposition(self) -> bytes:
        """Ours and what is kept of vLLM's, of all processes, in Prometheus' text format."""
        if folder := shared_folder():
            return generate_latest(KeptOfVllm(Shared(folder, [self.registry]), OURS))
        return generate_latest(self.registry) + generate_latest(KeptOfVllm(REGISTRY))


class KeptOfVllm(Collector):
    """vLLM registers with the process's registry; most of it speaks of an engine."""

    def __init__(self, source: Collector, *also: str) -> None:
        self._source = source
        self._beginnings = (*KEPT_OF_THE_PROCESS, *also)

    def collect(self) -> Iterator[Metric]:
        for family in self._source.collect():
            if family.name in KEPT_OF_VLLM or family.name.startswith(self._beginnings):
                yield family


Read = Callable[[worker_pb2.LoadReport], float]
ReadCauses = Callable[[worker_pb2.LoadReport], Mapping[str, int]]

GAUGES: tuple[tuple[str, str, Read], ...] = (
    ("running", "Sequences that the worker runs", lambda r: r.num_running),
    ("waiting", "Sequences that wait in it", lambda r: r.num_waiting),
    ("kv_blocks", "KV blocks that it has", lambda r: r.num_kv_blocks),
    ("kv_blocks_used", "KV blocks in use", lambda r: r.num_kv_blocks_used),
    ("open_sends", "Tickets that it holds KV for", lambda r: r.transfers.open_sends),
    ("open_loads", "Tickets that it waits for", lambda r: r.transfers.open_loads),
    ("open_tickets", "Tickets that it has taken and not closed", lambda r: r.tickets.num_open),
    ("ticket_bytes", "KV that they hold or wait for", lambda r: r.tickets.num_bytes),
    (
        "next_ticket_deadline_seconds",
        "Until the first of their leases ends, when last reported",
        lambda r: r.tickets.next_deadline_seconds,
    ),
    ("kv_held_bytes", "KV kept for open sends", lambda r: r.transfers.held_bytes),
    ("kv_awaited_bytes", "KV that open loads wait for", lambda r: r.transfers.awaited_bytes),
    ("staging_bytes", "Staging memory in use", lambda r: r.transfers.staging_bytes),
    ("links", "Connections to peers", lambda r: r.transfers.links),
)
COUNTERS: tuple[tuple[str, str, Read], ...] = (
    ("kv_sent_bytes", "KV sent", lambda r: r.transfers.sent_bytes),
    ("kv_received_bytes", "KV received", lambda r: r.transfers.received_bytes),
    ("segments_sent", "Segments of KV sent", lambda r: r.transfers.sent_segments),
    ("segments_received", "Segments of KV received", lambda r: r.transfers.received_segments),
    ("segments_late", "Segments for closed tickets", lambda r: r.transfers.late_segments),
    (
        "messages_rejected",
        "Control messages without the fleet's seal",
        lambda r: r.transfers.rejected_messages,
    ),
    ("sends_completed", "Tickets whose KV was sent", lambda r: r.transfers.sends_completed),
    ("sends_failed", "Tickets whose KV was not sent", lambda r: r.transfers.sends_failed),
    ("loads_completed", "Tickets whose KV came", lambda r: r.transfers.loads_completed),
    ("loads_failed", "Tickets that were recomputed", lambda r: r.transfers.loads_failed),
    ("load_seconds", "From asking for KV to having it", lambda r: r.transfers.load_seconds),
    ("exposed_seconds", "From KV computed to sent", lambda r: r.transfers.exposed_seconds),
    ("offload_stored_bytes", "Cold KV put in memory", lambda r: r.offloads.stored_bytes),
    ("offload_loaded_bytes", "Cold KV taken back from it", lambda r: r.offloads.loaded_bytes),
    ("offload_loads", "Times that cold KV was used again", lambda r: r.offloads.loads),
    ("offload_store_seconds", "Copying to that memory", lambda r: r.offloads.store_seconds),
    ("offload_load_seconds", "Copying from that memory", lambda r: r.offloads.load_seconds),
    ("offload_written_bytes", "Cold KV put in a folder", lambda r: r.offloads.written_bytes),
    ("offload_read_bytes", "Cold KV taken back from it", lambda r: r.offloads.read_bytes),
    ("offload_stores_skipped", "Without room for cold KV", lambda r: r.offloads.stores_skipped),
    ("offload_folder_failures", "Writes and reads failed", lambda r: r.offloads.folder_failures),
)


BY_CAUSE: tuple[tuple[str, str, ReadCauses], ...] = (
    ("tickets_refused", "Tickets that it did not take", lambda r: r.tickets.refused),
    (
        "transfer_failures",
        "By send_, load_, demand_ and cause; each rank",
        lambda r: r.transfers.failures,
    ),
)


class WorkerMetrics(Collector):
    """What the workers last reported, by worker_id."""

    def __init__(self, links: Callable[[], Iterable[WorkerLink]]) -> None:
        self._links = links

    def collect(self) -> Iterator[Metric]:
        reports = self._reports()
        for name, text, read in GAUGES:
            gauge = GaugeMetricFamily(f"baton_worker_{name}", text, labels=["worker"])
            for worker, report in reports.items():
                gauge.add_metric([worker], read(report))
            yield gauge
        for name, text, read in COUNTERS:
            counter = CounterMetricFamily(f"baton_worker_{name}", text, labels=["worker"])
            for worker, report in reports.items():
                counter.add_metric([worker], read(report))
            yield counter
        for name, text, read_causes in BY_CAUSE:
            labels = ["worker", "cause"]
            counter = CounterMetricFamily(f"baton_worker_{name}", text, labels=labels)
            for worker, report in reports.items():
                for cause, count in read_causes(report).items():
                    counter.add_metric([worker, cause], count)
            yield counter

    def _reports(self) -> dict[str, worker_pb2.LoadReport]:
        # Of two incarnations of a worker_id, the usable one.
        links = sorted(self._links(), key=lambda link: (link.is_usable, link.member.started_at))
        return {
            link.member.worker_id: link.session.report
            for link in links
            if link.session is not None and link.session.report is not None
        }
