from __future__ import annotations

import logging
import sys

import pytest

from gateway.errors import NoDecodeWorker
from gateway.exchange import Exchange, current_exchange
from gateway.logs import keeps_and_redacts

SECRET = "the prompt"


class VLLMClientError(Exception):
    """Named as vLLM's."""


def record_of(error: Exception, name: str = "vllm.serving") -> logging.LogRecord:
    try:
        raise error
    except Exception:
        info = sys.exc_info()
    return logging.LogRecord(name, logging.ERROR, "f.py", 1, "Error: %s", (str(error),), info)


def test_foreign_exceptions_keep_their_frames_and_lose_their_words() -> None:
    record = record_of(ValueError(SECRET))
    assert keeps_and_redacts(record)
    text = logging.Formatter().format(record)
    assert "ValueError" in text
    assert "test_logs.py" in text
    assert SECRET not in text


def test_our_own_lines_stay_as_they_are() -> None:
    record = record_of(ValueError("told"), "gateway.worker_link")
    assert keeps_and_redacts(record)
    assert "Error: told" in logging.Formatter().format(record)


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(record_of(VLLMClientError(SECRET)), id="a client's error"),
        pytest.param(
            logging.LogRecord("vllm.x", 40, "f.py", 1, "Error with model %s", ("m",), None),
            id="an unknown model",
        ),
    ],
)
def test_what_the_client_is_told_is_not_logged(record: logging.LogRecord) -> None:
    assert not keeps_and_redacts(record)


def test_what_follows_from_a_known_failure_is_not_logged() -> None:
    token = current_exchange.set(Exchange("r", NoDecodeWorker()))
    try:
        assert not keeps_and_redacts(record_of(ValueError(SECRET)))
    finally:
        current_exchange.reset(token)
