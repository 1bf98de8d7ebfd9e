from __future__ import annotations

import pytest

from decode_worker.__main__ import PROGRAM
from decode_worker.leg import DECODE
from decode_worker.settings import DecodeSettings
from worker.leg import Role
from worker.settings import load

WORDS = ("--model", "m", "--redis", "r", "--fleet-key-file", "key")


def test_a_decode_leg_samples_as_the_client_asked() -> None:
    assert DECODE.sampling is None


def test_it_fetches_the_kv_of_prompts() -> None:
    assert (PROGRAM.roles, PROGRAM.kv_role) == ((Role.DECODE,), "kv_consumer")


def test_its_name_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATON_WORKER_ID", raising=False)
    settings = load(DecodeSettings, PROGRAM.name, WORDS)
    assert settings.worker_id == "decode-0"
