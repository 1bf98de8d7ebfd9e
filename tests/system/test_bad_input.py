"""What cannot be answered gets a status and an error object that OpenAI's SDK understands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.system.exchange import client as http_client
from tests.system.live_fleet import LiveFleet
from tests.system.prompts import MAX_MODEL_LEN

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]

HELLO = [{"role": "user", "content": "hello"}]
TEN_MB = 10_000_000


@pytest.fixture
def client(fleet: LiveFleet) -> Iterator[openai.OpenAI]:
    url = f"{fleet.url}/v1"
    with openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client:
        yield client


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param({"model": "nobody"}, openai.NotFoundError, id="unknown-model"),
        pytest.param({"messages": []}, openai.BadRequestError, id="no-messages"),
        pytest.param({"max_tokens": -1}, openai.BadRequestError, id="negative-max-tokens"),
        pytest.param(
            {"messages": [{"role": "user", "content": "one " * (MAX_MODEL_LEN + 1)}]},
            openai.BadRequestError,
            id="prompt-over-the-context",
        ),
    ],
)
def test_a_bad_chat_is_refused(
    fleet: LiveFleet,
    client: openai.OpenAI,
    body: dict[str, Any],
    error: type[openai.APIStatusError],
    stream: bool,
) -> None:
    with pytest.raises(error) as refusal:
        client.chat.completions.create(
            **{"model": fleet.model, "messages": HELLO, "stream": stream, **body}
        )
    assert is_error_object(refusal.value.body)
    assert refusal.value.message
    fleet.wait_until_free()


def test_ten_megabytes_are_refused(fleet: LiveFleet, client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as refusal:
        client.completions.create(model=fleet.model, prompt="x" * TEN_MB)
    assert refusal.value.status_code == 413
    assert is_error_object(refusal.value.body)


def test_broken_json_is_refused(fleet: LiveFleet) -> None:
    with http_client() as http:
        answer = http.post(
            f"{fleet.url}/v1/chat/completions",
            content=b'{"model": ',
            headers={"content-type": "application/json"},
        )
    assert answer.status_code == 400
    assert is_error_object(answer.json()["error"])


def is_error_object(found: object) -> bool:
    """As the SDK takes it: the value of "error"."""
    return isinstance(found, dict) and found.keys() == {"message", "type", "param", "code"}
