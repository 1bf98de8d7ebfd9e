from __future__ import annotations

import pytest

from proto.greeting import Greeting, is_signed_by
from tests.proto.builders import KEY, OTHER_KEY

WORKER = "decode-0/abc"
HELLO = Greeting("gateway-0", "0.32.0", KEY, lambda: 1000.0).to(WORKER)


def test_a_greeting_is_known_by_its_key_and_its_worker() -> None:
    assert (HELLO.gateway_id, HELLO.vllm_version, HELLO.said_at) == ("gateway-0", "0.32.0", 1000.0)
    assert is_signed_by(KEY, HELLO, WORKER)
    assert not is_signed_by(OTHER_KEY, HELLO, WORKER)
    assert not is_signed_by(KEY, HELLO, "decode-0/abd")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("gateway_id", "gateway-1"),
        ("vllm_version", "0.33.0"),
        ("said_at", 1001.0),
        ("said_at", float("nan")),
        ("mac", b""),
        ("mac", bytes(32)),
    ],
)
def test_no_word_of_it_can_be_changed(field: str, value: object) -> None:
    hello = type(HELLO)()
    hello.CopyFrom(HELLO)
    setattr(hello, field, value)
    assert not is_signed_by(KEY, hello, WORKER)
