from __future__ import annotations

import pytest

from prefill_worker.__main__ import PROGRAM
from prefill_worker.leg import PREFILL
from prefill_worker.settings import PrefillSettings
from worker.leg import Role
from worker.settings import load

WORDS = ("--model", "m", "--redis", "r", "--fleet-key-file", "key")


def test_a_prefill_leg_ends_with_its_first_token_whatever_the_client_asked() -> None:
    assert PREFILL.sampling is not None
    assert PREFILL.sampling["max_tokens"] == 1
    assert PREFILL.sampling["ignore_eos"] is True


def test_it_computes_prompts_and_gives_their_kv_away() -> None:
    assert (PROGRAM.roles, PROGRAM.kv_role) == ((Role.PREFILL,), "kv_producer")


def test_its_name_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATON_WORKER_ID", raising=False)
    settings = load(PrefillSettings, PROGRAM.name, WORDS)
    assert settings.worker_id == "prefill-0"
