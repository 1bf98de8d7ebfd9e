from __future__ import annotations

import pytest

from gateway.errors import StartError
from gateway.request_life import Dispatch
from gateway.settings import read_settings

MODEL = ["--model", "models/tiny", "--fleet-key-file", "fleet.key"]


@pytest.fixture(autouse=True)
def _no_key_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATON_FLEET_KEY_FILE", raising=False)


def test_defaults() -> None:
    settings = read_settings(MODEL)
    assert settings.served_model_names == ("tiny",)
    assert settings.timeouts.connect == 5
    assert settings.timeouts.prefill == 120
    assert settings.timeouts.first_token == 300
    assert settings.timeouts.between_tokens == 60
    assert settings.max_body_mib == 8
    assert settings.dispatch is Dispatch.TOGETHER


def test_flags_go_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_PORT", "1234")
    monkeypatch.setenv("BATON_FIRST_TOKEN_SECONDS", "9")
    monkeypatch.setenv("BATON_HOME", "of another program")
    settings = read_settings([*MODEL, "--port", "4321"])
    assert settings.port == 4321
    assert settings.timeouts.first_token == 9


def test_several_names() -> None:
    settings = read_settings([*MODEL, "--served-model-name", "a, b,"])
    assert settings.served_model_names == ("a", "b")


@pytest.mark.parametrize(
    "words",
    [["--engine-args", "--enforce-eager"], ["--engine-args=--enforce-eager"]],
)
def test_engine_args_may_begin_with_dashes(words: list[str]) -> None:
    assert read_settings([*MODEL, *words]).engine_args == "--enforce-eager"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "--model: Field required"),
        (["--model", "m"], "--fleet-key-file is required: `baton key > FILE` makes one"),
        ([*MODEL, "--dispatch", "apart"], "--dispatch: Input should be 'together' or"),
        ([*MODEL, "--bogus", "1"], "unrecognized arguments: --bogus 1"),
        ([*MODEL, "--port", "99999"], "--port: Input should be less than or equal to 65535"),
        ([*MODEL, "--port", "x"], "--port: Input should be a valid integer"),
        ([*MODEL, "--redis", "http://x"], "--redis: fleet state at"),
        ([*MODEL, "--fleet", "a b"], "--fleet: use 1 to 128 letters"),
        ([*MODEL, "--engine-args", "'"], "--engine-args: No closing quotation"),
        ([*MODEL, "--expect-decode", "0"], "--expect-decode: Input should be greater than"),
    ],
)
def test_bad_settings_name_the_flag(words: list[str], line: str) -> None:
    with pytest.raises(StartError) as caught:
        read_settings(words)
    assert str(caught.value).startswith(line)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        read_settings(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "python -m gateway --model" in text
    assert "--between-tokens-seconds" in text
