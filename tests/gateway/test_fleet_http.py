"""Routing as HTTP shows it: the pages about decisions, the headers, the metrics."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from baton.cli import main as baton
from fleet.block_news import Batch, Snapshot, pack
from fleet.tier import Tier
from gateway.routing.decider import Decider
from tests.gateway.builders import PATIENCE_SECONDS
from tests.gateway.sdk_calls import MESSAGES
from tests.gateway.served_gateway import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM's routers use what their libraries have deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CHAT = "/v1/chat/completions"
BODY = {"model": "tiny", "messages": MESSAGES, "max_tokens": 2}
DEBUG = {"x-baton-debug": "1"}


async def ask(http: httpx.AsyncClient, **headers: str) -> httpx.Response:
    response = await http.post(CHAT, json=BODY, headers=headers)
    assert response.status_code == 200
    return response


async def explained(http: httpx.AsyncClient, request_id: str) -> dict[str, Any]:
    response = await http.get("/fleet/explain", params={"request_id": request_id})
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


async def page_when(
    http: httpx.AsyncClient, path: str, holds: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """The page, once it is as wanted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            page: dict[str, Any] = (await http.get(path)).json()
            if holds(page):
                return page


async def metrics(http: httpx.AsyncClient) -> dict[str, float]:
    lines = (await http.get("/metrics")).text.splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


# --- /fleet/explain and the headers -------------------------------------------------------------


async def test_a_request_is_explained_by_its_id(served: Served, http: httpx.AsyncClient) -> None:
    await ask(http, **{"x-request-id": "explain-me"})
    found = await explained(http, "explain-me")
    assert found["way"] == "remote"
    assert found["is_control"] is False
    assert found["computed_by"] == served.prefill.key
    assert found["decoded_by"] == served.decode.key
    assert found["forecasts"].keys() == {"remote", "local"}
    assert found["prompt_tokens"] >= found["uncached_tokens"] > 0
    for part, worker in (("compute", served.prefill), ("decode", served.decode)):
        assert found[part]["taken"] == worker.key
        assert [each["worker"] for each in found[part]["candidates"]] == [worker.key]
        assert found[part]["candidates"][0]["score"] >= 0


async def test_the_last_requests_are_explained(http: httpx.AsyncClient) -> None:
    for number in range(3):
        await ask(http, **{"x-request-id": f"latest-{number}"})
    names = list((await http.get("/fleet/explain")).json()["requests"])
    assert all(f"latest-{n}" in name for n, name in zip(range(3), names[-3:], strict=True))
    assert len(names) <= 20


@pytest.mark.parametrize("name", ["never-heard-of", "a b/ü", "x" * 4000])
async def test_an_unknown_request_is_a_404_in_openais_shape(
    http: httpx.AsyncClient, name: str
) -> None:
    response = await http.get("/fleet/explain", params={"request_id": name})
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["code"]) == ("NotFoundError", "unknown_request")
    assert error["param"] == "request_id"
    assert name not in error["message"]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_route_is_told_to_who_asks_for_it(http: httpx.AsyncClient, stream: bool) -> None:
    response = await http.post(CHAT, json={**BODY, "stream": stream}, headers=DEBUG)
    route = dict(part.split("=") for part in response.headers["x-baton-route"].split("; "))
    assert route.keys() == {"way", "prefill", "decode", "prompt", "uncached"}
    assert (route["way"], route["prefill"], route["decode"]) == ("remote", "prefill-0", "decode-0")
    assert int(route["prompt"]) >= int(route["uncached"])


@pytest.mark.parametrize("headers", [{}, {"x-baton-debug": "0"}, {"x-baton-debug": "false"}])
async def test_nobody_else_is_told_the_route(
    http: httpx.AsyncClient, headers: dict[str, str]
) -> None:
    assert "x-baton-route" not in (await ask(http, **headers)).headers


async def test_a_page_has_no_route(http: httpx.AsyncClient) -> None:
    assert "x-baton-route" not in (await http.get("/fleet/workers", headers=DEBUG)).headers


async def test_a_refused_request_has_no_route(http: httpx.AsyncClient) -> None:
    response = await http.post(CHAT, json={**BODY, "model": "no"}, headers=DEBUG)
    assert response.status_code == 404
    assert "x-baton-route" not in response.headers


async def test_a_prompt_that_cannot_be_handed_over_stays_with_its_decode_worker(
    served: Served, http: httpx.AsyncClient
) -> None:
    body = {"model": "tiny", "prompt": [41], "max_tokens": 2}
    response = await http.post("/v1/completions", json=body, headers=DEBUG)
    assert response.headers["x-baton-route"].startswith("way=local; prefill=decode-0; decode=dec")
    assert not served.prefill.submitted


async def test_a_session_comes_back_to_its_workers(served: Served, http: httpx.AsyncClient) -> None:
    for number in range(2):
        await ask(http, **{"x-session-id": "talk-7", "x-request-id": f"in-session-{number}"})
    assert await session_score(http, "in-session-0") == 0
    assert await session_score(http, "in-session-1") > 0


async def test_a_session_may_be_named_in_the_body(http: httpx.AsyncClient) -> None:
    for number in range(2):
        headers = {"x-request-id": f"in-body-{number}"}
        await http.post(CHAT, json={**BODY, "session_id": "talk-8"}, headers=headers)
    assert await session_score(http, "in-body-1") > 0


async def session_score(http: httpx.AsyncClient, request_id: str) -> float:
    candidates = (await explained(http, request_id))["compute"]["candidates"]
    return float(candidates[0]["session"])


async def test_who_still_waits_is_counted_and_not_yet_explained(
    served: Served, http: httpx.AsyncClient
) -> None:
    served.decode.hold_after(0)
    waiting = [
        # Three of them have room in the decode worker's cache.
        asyncio.ensure_future(
            http.post(
                CHAT,
                json={**BODY, "messages": [{"role": "user", "content": f"{n}" * 400}]},
                headers={"x-request-id": f"waits-{n}"},
            )
        )
        for n in range(5)
    ]
    try:
        lives = served.gateway.book.lives
        # A page says how it was before all of them had come, too.
        await page_when(http, "/fleet/decision", lambda page: len(lives) == 5)
        page = await page_when(http, "/fleet/decision", lambda page: page["num_waiting"] == 2)
        served.gateway._gauges.read()
        values = await metrics(http)
        assert values["baton_queue_requests"] == 2
        assert values["baton_queue_seconds"] > 0
        assert sum(each["num_waiting"] for each in page["workers"].values()) == 2
        pages = [await http.get(f"/fleet/explain?request_id=waits-{n}") for n in range(5)]
        unknown = [page for page in pages if page.status_code == 404]
        assert len(unknown) == 2
        assert all("still waits" in page.json()["error"]["message"] for page in unknown)
    finally:
        served.decode.behaviour.decode_may_go_on.set()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200] * 5


# --- /fleet/decision ----------------------------------------------------------------------------


async def test_the_decision_shows_goals_ways_workers_and_pairs(
    served: Served, http: httpx.AsyncClient
) -> None:
    await ask(http)
    page = (await http.get("/fleet/decision")).json()
    assert page["disaggregation"] == "always"
    assert (page["ttft_goal_seconds"], page["itl_goal_seconds"]) == (2.0, 0.2)
    assert 0 <= page["control_share"] <= 0.5
    assert page["num_waiting"] == 0
    assert page["workers"].keys() == {worker.key for worker in served.workers}
    assert all(size.isdecimal() for size in page["by_uncached_tokens"])
    ways = list(page["by_uncached_tokens"].values())
    assert sum(each["remote"]["num_requests"] for each in ways) > 0
    assert all(each["remote"]["ttft_seconds"] >= 0 for each in ways)


# --- /fleet/index -------------------------------------------------------------------------------


async def test_the_index_counts_what_workers_told(served: Served, http: httpx.AsyncClient) -> None:
    await tell_blocks(served)
    page = await page_when(
        http, "/fleet/index", lambda page: page["is_current"] and page["num_blocks"] >= 4
    )
    assert page["num_bytes"] > 0
    assert page["bytes_per_entry"] == page["num_bytes"] / page["num_entries"]
    assert page["num_entries"] >= 5
    assert page["lag_seconds"] == 0
    assert "audit" not in page
    decode = page["workers"][served.decode.key]
    assert (decode["is_whole"], decode["device"], decode["disk"]) == (True, 3, 0)
    prefill = page["workers"][served.prefill.key]
    assert (prefill["is_whole"], prefill["device"], prefill["host"]) == (True, 1, 1)
    assert page["hit_rate"] == page["num_cached_tokens"] / page["num_prompt_tokens"]


async def test_an_audit_finds_what_the_index_lacks_and_what_it_has_wrongly(
    served: Served, http: httpx.AsyncClient
) -> None:
    await tell_blocks(served)
    await page_when(http, "/fleet/index", lambda page: page["is_current"])
    served.prefill.behaviour.held_blocks = (11,)
    served.decode.behaviour.held_blocks = (22, 23, 24, 25)
    audit = (await http.get("/fleet/index", params={"audit": 1})).json()["audit"]
    decode = audit["workers"][served.decode.key]
    assert (decode["num_held"], decode["num_lacking"], decode["num_wrong"]) == (4, 2, 1)
    assert decode["share_lacking"] == 0.5
    assert decode["share_wrong"] == pytest.approx(1 / 3)
    prefill = audit["workers"][served.prefill.key]
    assert (prefill["num_held"], prefill["num_lacking"], prefill["num_wrong"]) == (1, 0, 0)
    assert (audit["num_held"], audit["num_lacking"], audit["num_wrong"]) == (5, 2, 1)


async def tell_blocks(served: Served) -> None:
    """As the workers themselves would: a snapshot each, and then nothing new."""
    for worker, tiers in (
        (served.prefill, {Tier.DEVICE: (11,), Tier.HOST: (12,)}),
        (served.decode, {Tier.DEVICE: (21, 22, 23)}),
    ):
        packed: dict[int, bytes] = {int(tier): pack(keys) for tier, keys in tiers.items()}
        await served.log.put(Snapshot(worker.key, 1, packed), 60)
        await served.log.tell(Batch(worker.key, 2, ()))


# --- Metrics ------------------------------------------------------------------------------------


async def test_requests_and_prompts_are_counted_once(http: httpx.AsyncClient) -> None:
    before = await metrics(http)
    num_tokens = 0
    for number in range(3):
        await ask(http, **{"x-request-id": f"counted-{number}"})
        num_tokens += (await explained(http, f"counted-{number}"))["prompt_tokens"]
    await http.post("/v1/completions", json={"model": "tiny", "prompt": [41], "max_tokens": 2})
    num_tokens += 1
    after = await metrics(http)
    grown = {name: value - before.get(name, 0) for name, value in after.items()}
    assert grown['baton_requests_by_way_total{control="no",way="remote"}'] == 3
    assert grown['baton_requests_by_way_total{control="no",way="local"}'] == 1
    assert grown['baton_requests_by_way_total{control="yes",way="remote"}'] == 0
    assert grown["baton_prompt_tokens_total"] == num_tokens
    assert 0 <= grown["baton_prompt_cached_tokens_total"] <= num_tokens
    assert grown['baton_stage_seconds_count{stage="queue"}'] == 4


async def test_queue_index_and_gain_are_shown(
    served: Served, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decider, "gain_seconds", lambda decider: 0.25)
    served.gateway._gauges.read()
    values = await metrics(http)
    assert values["baton_disaggregation_gain_seconds"] == 0.25
    assert values["baton_queue_requests"] == values["baton_queue_seconds"] == 0
    assert values["baton_index_entries"] >= 0
    assert values["baton_index_is_current"] in (0, 1)


# --- baton fleet --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param("index", "prefill-0 ", id="index"),
        pytest.param("index --audit", "really held", id="audit"),
        pytest.param("explain", "cmpl-for-the-command-", id="latest"),
        pytest.param("explain for-the-command", "*  remote ", id="one"),
        pytest.param("decision", "Disaggregation always", id="decision"),
        pytest.param("decision --json", '"by_uncached_tokens": {', id="json"),
    ],
)
async def test_the_command_line_shows_the_pages(
    served: Served,
    http: httpx.AsyncClient,
    capsys: pytest.CaptureFixture[str],
    words: str,
    expected: str,
) -> None:
    await tell_blocks(served)
    await page_when(http, "/fleet/index", lambda page: page["is_current"])
    await ask(http, **{"x-request-id": "for-the-command"})
    code = await asyncio.to_thread(baton, ["fleet", *words.split(), "--url", served.url])
    written = capsys.readouterr()
    assert (code, written.err) == (0, "")
    assert expected in written.out


# --- What nobody may read here ------------------------------------------------------------------


async def test_no_prompt_text_in_any_page(http: httpx.AsyncClient) -> None:
    secret = "kryptonite"
    body = {"model": "tiny", "messages": [{"role": "user", "content": secret}], "max_tokens": 2}
    response = await http.post(CHAT, json=body, headers={**DEBUG, "x-request-id": "secretive"})
    assert secret not in response.headers["x-baton-route"]
    for path in (
        "/fleet/explain",
        "/fleet/explain?request_id=secretive",
        "/fleet/decision",
        "/fleet/index?audit=1",
        "/fleet/workers?fresh=1",
        "/metrics",
    ):
        page = await http.get(path)
        assert page.status_code == 200, path
        assert secret not in page.text, path


async def test_a_request_id_that_is_asked_for_is_not_echoed(http: httpx.AsyncClient) -> None:
    page = await http.get("/fleet/explain", params={"request_id": "<script>"})
    assert not re.search("script", page.text)


@pytest.mark.parametrize("path", ["/fleet/explain", "/fleet/decision", "/fleet/index"])
async def test_pages_are_read_only(http: httpx.AsyncClient, path: str) -> None:
    response = await http.post(path, json={})
    assert response.status_code == 405
    assert response.json()["error"]["code"] == "method_not_allowed"
    assert response.headers["allow"] == "GET"
