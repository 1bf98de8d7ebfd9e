from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest

from fleet.block_log import Reading
from fleet.block_news import Snapshot, pack
from fleet.block_watch import BlockWatch
from fleet.errors import FleetUnavailable
from fleet.prefix_index import PrefixIndex
from fleet.tier import Tier
from gateway.block_audit import BlockAudit
from gateway.door import Page
from gateway.error_shape import ErrorObject
from gateway.fleet_pages import MAX_SHOWN, FleetPages
from gateway.index_report import IndexReport
from gateway.routing.decider import Mode
from gateway.routing.way import Forecast, Way
from tests.gateway.routing.builders import Desk, make_fleet, make_prompt, told


class Log:
    """Of workers that have told everything in their snapshots. `is_away`: it says no more."""

    def __init__(self, *known: Snapshot) -> None:
        self.is_away = False
        self.is_read = asyncio.Event()
        self._known = {snapshot.worker: snapshot for snapshot in known}

    async def snapshots(self, workers: Sequence[str]) -> tuple[Snapshot, ...]:
        return tuple(self._known[worker] for worker in workers if worker in self._known)

    async def end(self, seconds_before: float = 0.0) -> str:
        return "here"

    async def read(self, place: str, wait_seconds: float) -> Reading:
        if self.is_read.is_set():
            await asyncio.Event().wait()
        self.is_read.set()
        return Reading((), place)

    async def lag_seconds(self, place: str) -> float:
        if self.is_away:
            raise FleetUnavailable("here", "away")
        return 0.25


class Pages:
    """The pages of a small gateway."""

    def __init__(self, desk: Desk, log: Log | None = None) -> None:
        self.watch = BlockWatch(log or Log())
        self.desk = desk
        audit = BlockAudit(self.watch.replica, tuple)
        index = IndexReport(self.watch, PrefixIndex(self.watch.replica), desk.dispatcher)
        self.pages = FleetPages(desk.dispatcher, index, audit)

    async def ask(self, path: str, **query: str) -> dict[str, Any]:
        page = await self.answer(path, **query)
        assert isinstance(page, Page)
        assert page.status == 200
        found: dict[str, Any] = json.loads(page.body, parse_constant=refuse)
        return found

    async def answer(self, path: str, **query: str) -> Page | ErrorObject:
        make_page = self.pages.by_path()[f"/fleet/{path}"]
        return await make_page("", {name: [value] for name, value in query.items()})

    @asynccontextmanager
    async def following(self, log: Log) -> AsyncIterator[None]:
        running = asyncio.ensure_future(self.watch.run())
        await log.is_read.wait()
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait([running])


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


def make_desk(*names: str, mode: Mode = Mode.ALWAYS) -> Desk:
    """With these requests sent."""
    desk = Desk(make_fleet(), mode, control_share=0.1)
    for name in names:
        desk.add(make_prompt(name, 100))
        desk.begin()
        desk.streams(name)
    return desk


async def test_why_one_request_went_where_it_went() -> None:
    pages = Pages(make_desk("cmpl-1", "cmpl-2"))
    found = await pages.ask("explain", request_id="cmpl-2")
    assert found["computed_by"] == "p1"
    assert found["prompt_tokens"] == 100
    assert found["forecasts"].keys() == {"remote", "local"}


async def test_the_last_requests_are_explained() -> None:
    names = [f"cmpl-{number:03}" for number in range(MAX_SHOWN + 5)]
    found = await Pages(make_desk(*names)).ask("explain")
    assert list(found["requests"]) == names[5:]


async def test_of_an_unknown_request_nothing_is_known() -> None:
    found = await Pages(make_desk("cmpl-1")).answer("explain", request_id="other")
    assert isinstance(found, ErrorObject)
    assert found.status == 404
    assert await Pages(make_desk()).ask("explain") == {"requests": {}}


async def test_before_anything_was_decided() -> None:
    found = await Pages(make_desk(mode=Mode.AUTO)).ask("decision")
    assert found["disaggregation"] == "auto"
    assert found["control_share"] == 0.1
    assert found["ttft_gain_seconds"] is None
    assert found["by_uncached_tokens"] == {}
    assert found["pairs"] == []
    assert found["num_waiting"] == 0


async def test_what_was_measured_of_both_ways() -> None:
    desk = make_desk("a")
    verdict = desk.placements["a"].verdict
    assert verdict is not None
    desk.dispatcher.router.decider.observe(verdict, 0.4)
    found = await Pages(desk).ask("decision")
    assert found["by_uncached_tokens"]["128"]["remote"]["num_requests"] == 1
    assert found["by_uncached_tokens"]["128"]["remote"]["ttft_seconds"] == 0.4
    assert found["by_uncached_tokens"]["128"]["remote"]["is_usual"] is False
    assert found["by_uncached_tokens"]["128"]["local"]["num_requests"] == 0
    assert found["by_uncached_tokens"]["128"]["local"]["ttft_seconds"] is None


async def test_which_way_is_usual() -> None:
    desk = make_desk(mode=Mode.AUTO)
    decider = desk.dispatcher.router.decider
    ways = {Way.REMOTE: Forecast(1.0, 0.01), Way.LOCAL: Forecast(9.0, 0.01)}
    decider.observe(decider.decide(100, ways), 1.0)
    sizes = (await Pages(desk).ask("decision"))["by_uncached_tokens"]
    assert {way: seen["is_usual"] for way, seen in sizes["128"].items()} == {
        "remote": True,
        "local": False,
    }


async def test_what_each_worker_can_do_and_who_waits() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    told(desk.table, "p1", token_seconds=0.002)
    for name in "abc":
        desk.add(make_prompt(name, 5000))
    desk.begin()
    found = await Pages(desk).ask("decision")
    assert found["num_waiting"] == 2
    assert found["workers"].keys() == {"d1", "p1"}
    assert found["workers"]["p1"]["num_waiting"] == 2
    assert found["workers"]["p1"]["prefill_tokens_per_second"] == pytest.approx(500, rel=0.1)
    assert found["workers"]["d1"]["kv_free_tokens"] == (1 << 20) - 5024


async def test_links_that_are_known_limits_and_those_that_never_were() -> None:
    desk = Desk(make_fleet("d1 d2", "p1"))
    rows, pairs = desk.table.rows, desk.dispatcher.router.pairs
    for _ in range(2):
        pairs.observe(rows["p1"], rows["d1"], 1e6, 0.5, 1.5)
    pairs.observe(rows["p1"], rows["d2"], 1e6, 0.5, 0.0)
    found = await Pages(desk).ask("decision")
    assert found["pairs"] == [
        {"source": "p1", "target": "d1", "bytes_per_second": 500_000},
        {"source": "p1", "target": "d2", "bytes_per_second": None},
    ]


async def test_the_index_in_figures() -> None:
    log = Log(Snapshot("d1", 1, {Tier.DEVICE: pack([1, 2]), Tier.DISK: pack([2])}))
    pages = Pages(make_desk("a"), log)
    pages.watch.meet("d1")
    pages.desk.dispatcher.counts.add(100, 80)
    async with pages.following(log):
        found = await pages.ask("index")
        assert (found["num_blocks"], found["num_entries"]) == (2, 3)
        assert found["bytes_per_entry"] == pytest.approx(found["num_bytes"] / 3)
        assert found["lag_seconds"] == 0.25
        assert (found["num_prompt_tokens"], found["hit_rate"]) == (100, 0.2)
        worker = found["workers"]["d1"]
        assert worker["is_whole"]
        assert (worker["device"], worker["host"], worker["disk"]) == (2, 0, 1)
        assert "audit" not in found
        log.is_away = True
        assert (await pages.ask("index"))["lag_seconds"] is None


async def test_an_empty_index() -> None:
    found = await Pages(make_desk()).ask("index")
    assert found["num_entries"] == 0
    assert found["bytes_per_entry"] is None
    assert found["hit_rate"] is None
    assert not found["is_current"]
    assert found["workers"] == {}


@pytest.mark.parametrize(("audit", "is_asked"), [("1", True), ("0", False), ("false", False)])
async def test_an_audit_is_made_if_it_is_asked_for(
    audit: str, is_asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.block_audit.SETTLE_SECONDS", 0.0)
    found = await Pages(make_desk()).ask("index", audit=audit)
    assert ("audit" in found) is is_asked
    if is_asked:
        assert found["audit"]["num_held"] == 0


async def test_pages_tell_nothing_of_prompts() -> None:
    desk = Desk(make_fleet(), Mode.ALWAYS)
    desk.add(make_prompt("a", 100, session="my session", lora="my adapter"))
    desk.begin()
    pages = Pages(desk)
    for path in ("explain", "decision", "index"):
        text = json.dumps(await pages.ask(path))
        assert "my session" not in text
        assert "my adapter" not in text
