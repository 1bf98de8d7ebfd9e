"""What no SDK would send, over plain HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import httpx
import pytest

from tests.gateway.builders import PATIENCE_SECONDS
from tests.gateway.sdk_calls import MESSAGES
from tests.gateway.served_gateway import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM's routers use what their libraries have deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def error_of(response: httpx.Response) -> dict[str, object]:
    content = response.json()
    assert content.keys() == {"error"}
    assert content["error"].keys() == {"message", "type", "param", "code"}
    found: dict[str, object] = content["error"]
    return found


async def test_broken_json_is_a_400(http: httpx.AsyncClient) -> None:
    response = await http.post(CHAT, content=b"{broken", headers=JSON)
    assert response.status_code == 400
    assert "JSON" in str(error_of(response)["message"])


async def test_broken_json_in_anthropics_shape(http: httpx.AsyncClient) -> None:
    response = await http.post("/v1/messages", content=b"{broken", headers=JSON)
    assert response.status_code == 400
    assert response.json()["type"] == "error"
    assert response.json()["error"]["type"] == "invalid_request_error"


async def test_another_media_type_is_a_400(http: httpx.AsyncClient) -> None:
    response = await http.post(CHAT, content=b"a=b", headers={"content-type": "text/plain"})
    assert response.status_code == 400
    error_of(response)


async def test_a_large_body_is_a_413(http: httpx.AsyncClient) -> None:
    response = await http.post(CHAT, content=b" " * (2**20 + 1), headers=JSON)
    assert response.status_code == 413
    assert error_of(response)["code"] == "request_too_large"
    assert (await http.get("/health")).status_code == 200


async def test_a_large_body_of_unknown_length_is_a_413(http: httpx.AsyncClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 2**16

    response = await http.post(CHAT, content=endless(), headers=JSON)
    assert response.status_code == 413
    error_of(response)


async def test_a_chunked_body_within_the_limit_is_served(http: httpx.AsyncClient) -> None:
    body = json.dumps({"model": "tiny", "messages": MESSAGES, "max_tokens": 2}).encode()

    async def parts() -> AsyncIterator[bytes]:
        yield body[:20]
        yield body[20:]

    assert (await http.post(CHAT, content=parts(), headers=JSON)).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "unknown_endpoint"),
        ("GET", "/docs", 404, "unknown_endpoint"),
        ("GET", "/openapi.json", 404, "unknown_endpoint"),
        ("GET", "/load", 404, "unknown_endpoint"),
        ("POST", "/sleep", 404, "unsupported_endpoint"),
        ("POST", "/reset_prefix_cache", 404, "unsupported_endpoint"),
        ("POST", "/scale_elastic_ep", 404, "unsupported_endpoint"),
        ("POST", "/v1/load_lora_adapter", 404, "unsupported_endpoint"),
        ("POST", "/v1/score", 404, "unsupported_endpoint"),
        ("POST", "/inference/v1/generate", 404, "unsupported_endpoint"),
        ("POST", "/invocations", 404, "unsupported_endpoint"),
        ("GET", "/v1/responses/resp_1", 404, "unsupported_endpoint"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("DELETE", "/v1/models/tiny", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods(
    http: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await http.request(method, path)
    assert response.status_code == status
    assert error_of(response)["code"] == code
    assert ("allow" in response.headers) == (status == 405)


async def test_a_request_id_is_accepted_and_returned(
    served: Served, http: httpx.AsyncClient
) -> None:
    body = {"model": "tiny", "messages": MESSAGES, "max_tokens": 2}
    response = await http.post(CHAT, json=body, headers={"x-request-id": "mine-1"})
    assert response.headers.get_list("x-request-id") == ["mine-1"]
    assert response.json()["id"] == "chatcmpl-mine-1"
    assert served.decode.submitted[0].request_id.startswith("chatcmpl-mine-1-")


async def test_a_request_id_that_cannot_stand_in_a_header_is_replaced(
    http: httpx.AsyncClient,
) -> None:
    response = await http.get("/v1/models", headers={"x-request-id": "0_a b" * 99})
    assert len(response.headers["x-request-id"]) == 32


async def test_tokenize_and_detokenize(http: httpx.AsyncClient) -> None:
    tokens = (await http.post("/tokenize", json={"model": "tiny", "prompt": "abc"})).json()
    assert tokens["count"] == len(tokens["tokens"])
    body = {"model": "tiny", "tokens": tokens["tokens"]}
    assert (await http.post("/detokenize", json=body)).json()["prompt"] == "abc"


async def test_health_and_version(http: httpx.AsyncClient) -> None:
    health = await http.get("/health")
    assert health.status_code == 200
    assert health.json()["num_decode_workers"] == 1
    assert (await http.head("/health")).status_code == 200
    assert (await http.head("/v1/models")).content == b""
    assert (await http.get("/version")).json() == {"version": "0.32.0"}


async def test_a_trailing_slash_does_not_matter(http: httpx.AsyncClient) -> None:
    assert (await http.get("/v1/models/")).json()["object"] == "list"


async def test_the_workers_are_shown(served: Served, http: httpx.AsyncClient) -> None:
    rows = (await http.get("/fleet/workers", params={"fresh": 1})).json()["workers"]
    assert [row["worker_id"] for row in rows] == ["decode-0", "prefill-0"]
    assert rows[0]["role"] == "decode"
    assert rows[0]["incarnation"] == served.decode.incarnation
    assert rows[0]["state"] == "ready"
    assert rows[0]["load"]["num_kv_blocks"] == 100
    assert rows[0]["load"]["transfers"]["loads_completed"] == 3
    assert rows[0]["load"]["transfers"]["failures"] == {"send_revoked": 4}
    assert rows[0]["load"]["tickets"] == {
        "num_open": 1, "num_bytes": 64, "next_deadline_seconds": 0.0, "refused": {"used": 2},
    }  # fmt: skip
    assert 0 <= rows[0]["report_age_seconds"] < PATIENCE_SECONDS


async def test_a_silent_worker_does_not_hold_the_page_up(
    served: Served, http: httpx.AsyncClient
) -> None:
    served.prefill.behaviour.answers_pings = False
    async with asyncio.timeout(5):
        rows = (await http.get("/fleet/workers?fresh=1")).json()["workers"]
    assert len(rows) == 2


async def test_metrics_tell_of_requests_stages_hand_offs_and_workers(
    http: httpx.AsyncClient,
) -> None:
    await http.post(CHAT, json={"model": "tiny", "messages": MESSAGES, "max_tokens": 2})
    response = await http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    for line in (
        'baton_requests_total{outcome="finished"}',
        'baton_requests_total{outcome="refused"}',
        'baton_stage_seconds_bucket{le="0.5",stage="first_token"}',
        'baton_handoffs_total{result="moved"}',
        'baton_http_answers_total{route="/v1/chat/completions",status="200"}',
        'baton_worker_kv_blocks{worker="decode-0"} 100.0',
        'baton_worker_kv_sent_bytes_total{worker="prefill-0"} 1000.0',
        'baton_worker_open_tickets{worker="decode-0"} 1.0',
        'baton_worker_ticket_bytes{worker="decode-0"} 64.0',
        'baton_worker_tickets_refused_total{cause="used",worker="decode-0"} 2.0',
        'baton_worker_transfer_failures_total{cause="send_revoked",worker="prefill-0"} 4.0',
        'baton_handoffs_total{result="refused"}',
        "vllm:generation_tokens_total",
        "vllm:time_to_first_token_seconds_count",
    ):
        assert line in response.text
    for name in ("vllm:kv_cache_usage_perc", "vllm:num_requests_running", "http_request_"):
        assert name not in response.text


async def test_no_prompt_text_in_metrics_or_logs(
    http: httpx.AsyncClient, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "kryptonite"
    for body in (
        {"model": "tiny", "messages": [{"role": "user", "content": secret}], "max_tokens": 2},
        {"model": "tiny", "messages": [{"role": secret, "content": secret}], "max_tokens": 2},
        {"model": "tiny", "messages": secret},
        {"model": "tiny", "messages": [{"role": "user", "content": secret * 600}]},
    ):
        await http.post(CHAT, json=body)
        await http.post("/v1/messages", json={"max_tokens": 2, **body})
    metrics = (await http.get("/metrics")).text
    written = capfd.readouterr()
    assert secret not in metrics
    assert secret not in written.out + written.err
