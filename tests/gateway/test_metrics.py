"""What is counted of a request, once it has ended; and of several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.metrics import GatewayMetrics
from gateway.request_life import Costs, RequestLife
from gateway.routing.decider import Verdict
from gateway.routing.way import Way
from tests.gateway.builders import make_life, make_request, make_ticket

GAUGES = """
import asyncio, os, sys
from pathlib import Path
from types import SimpleNamespace
from prometheus_client import CollectorRegistry, generate_latest
from gateway.routing_gauges import RoutingGauges
from gateway.shared_metrics import Shared

def gauges(queue, entries, is_current, gain):
    seconds = SimpleNamespace(sum=lambda: queue / 2)
    table = SimpleNamespace(columns=SimpleNamespace(queued_seconds=seconds))
    decider = SimpleNamespace(gain_seconds=lambda: gain)
    router = SimpleNamespace(decider=decider)
    dispatcher = SimpleNamespace(num_waiting=queue, table=table, router=router)
    replica = SimpleNamespace(table=SimpleNamespace(num_entries=entries))
    blocks = SimpleNamespace(replica=replica, is_current=is_current)
    RoutingGauges(CollectorRegistry(), dispatcher, blocks)

for values in ((2, 10, True, None), (3, 12, False, 0.25)):
    pid = os.fork()
    if not pid:
        gauges(*values)
        os._exit(0)
    os.waitpid(pid, 0)
    print(pid)
print(generate_latest(Shared(Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]), [])).decode())
"""


def make_sent(
    way: Way, *, num_uncached: int = 30, planned: Way | None = None, is_control: bool = False
) -> RequestLife:
    life = make_life(make_request(num_prompt_tokens=100))
    life.verdict = Verdict(planned or way, is_control)
    is_remote = way is Way.REMOTE
    life.submit(
        1.0,
        "d",
        "p" if is_remote else None,
        make_ticket() if is_remote else None,
        costs=Costs(num_uncached, 0.1, 200),
    )
    return life


def counted(*lives: RequestLife) -> dict[str, float]:
    metrics = GatewayMetrics()
    for life in lives:
        life.abort(2.0)
        metrics.life_ended(life)
    return {
        sample.name + "".join(f" {value}" for _, value in sorted(sample.labels.items())): value
        for family in metrics.registry.collect()
        for sample in family.samples
        if (value := sample.value) and not sample.name.endswith("_created")
    }


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize(("is_control", "word"), [(False, "no"), (True, "yes")])
def test_a_request_is_counted_by_its_way(way: Way, is_control: bool, word: str) -> None:
    found = counted(make_sent(way, is_control=is_control))
    ways = {name: value for name, value in found.items() if "by_way" in name}
    assert ways == {f"baton_requests_by_way_total {word} {way}": 1}


def test_what_was_taken_over_is_counted_where_it_went() -> None:
    found = counted(make_sent(Way.LOCAL, planned=Way.REMOTE, is_control=True))
    assert found["baton_requests_by_way_total no local"] == 1


def test_prompts_are_counted_with_what_was_cached() -> None:
    found = counted(make_sent(Way.REMOTE), make_sent(Way.LOCAL, num_uncached=100))
    assert found["baton_prompt_tokens_total"] == 200
    assert found["baton_prompt_cached_tokens_total"] == 70
    assert found["baton_stage_seconds_sum queue"] == 2


def test_what_never_left_the_queue_is_in_no_way() -> None:
    waited = make_sent(Way.REMOTE)
    waited.wait_again(1.5)
    found = counted(make_life(), waited)
    assert found["baton_requests_total aborted"] == 2
    assert not any(name.startswith(("baton_requests_by_way", "baton_prompt")) for name in found)


def test_gauges_of_several_processes_come_together(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", GAUGES],
        env=os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    first, second, *page = done.stdout.splitlines()
    assert {
        "baton_queue_requests 5.0",
        "baton_queue_seconds 2.5",
        "baton_index_entries 12.0",
        "baton_index_is_current 0.0",
        f'baton_disaggregation_gain_seconds{{pid="{first}"}} NaN',
        f'baton_disaggregation_gain_seconds{{pid="{second}"}} 0.25',
    } <= set(page)
