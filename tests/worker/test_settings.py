from __future__ import annotations

from pathlib import Path

import pytest

from kvtransfer.offload import OffloadPlan
from worker.errors import BadSettings
from worker.settings import WorkerSettings, load

PROGRAM = "python -m some_worker"
NEEDED = (
    *("--model", "m", "--worker-id", "w-0", "--redis", "redis://r"),
    *("--fleet-key-file", "key"),
)


def read(*words: str) -> WorkerSettings:
    return load(WorkerSettings, PROGRAM, [*NEEDED, *words])


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WorkerSettings.model_fields:
        monkeypatch.delenv(f"BATON_{name.upper()}", raising=False)
    monkeypatch.delenv("BATON_TESTING", raising=False)


def test_defaults_stand_where_nothing_is_said() -> None:
    settings = read()
    assert (settings.host, settings.port, settings.fleet) == ("127.0.0.1", 0, "baton")
    assert settings.max_model_len is None


def test_flags_go_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_PORT", "7000")
    monkeypatch.setenv("BATON_FLEET", "other")
    settings = read("--port", "7001")
    assert (settings.port, settings.fleet) == (7001, "other")


def test_variables_of_other_programs_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_DETACH", "1")
    assert read().fleet == "baton"


@pytest.mark.parametrize("words", [("--engine-args=--block-size 64",), ("--engine-args", "--a b")])
def test_engine_arguments_come_in_one_string(words: tuple[str, ...]) -> None:
    assert read(*words).engine_args.startswith("--")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        pytest.param(["--prot", "1"], "unrecognized arguments: --prot 1", id="unknown"),
        pytest.param(["--mod", "x"], "unrecognized", id="abbreviated"),
        pytest.param(["--port", "70000"], "--port '70000': input should be less", id="too large"),
        pytest.param(["--kv-cache-gib=0"], "--kv-cache-gib '0'", id="too small"),
        pytest.param(["--worker-id", "a/b"], "--worker-id 'a/b'", id="bad name"),
        pytest.param(["--kv-staging", "gpu"], "--kv-staging 'gpu'", id="no such place"),
        pytest.param(["--engine-args", "'x"], "no closing quotation", id="unbalanced"),
    ],
)
def test_a_bad_flag_is_named(words: list[str], problem: str) -> None:
    with pytest.raises(BadSettings) as refused:
        read(*words)
    assert problem in str(refused.value).replace("No closing", "no closing")
    assert f"see {PROGRAM} --help" in str(refused.value)


def test_a_bad_variable_is_named_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_PORT", "seven")
    with pytest.raises(BadSettings, match="BATON_PORT 'seven'"):
        read()


def test_what_is_missing_is_named() -> None:
    with pytest.raises(BadSettings, match="--model is required"):
        load(WorkerSettings, PROGRAM, ["--redis", "redis://r", "--worker-id", "w"])


def test_the_advertised_host_is_one_that_others_can_reach() -> None:
    assert read("--host", "10.0.0.7").reached_by == "10.0.0.7"
    assert read("--host", "0.0.0.0", "--advertise", "node-7").reached_by == "node-7"
    with pytest.raises(BadSettings, match="--advertise"):
        _ = read("--host", "0.0.0.0").reached_by


def test_cold_kv_goes_to_memory_and_from_there_to_a_folder_of_the_workers_own() -> None:
    assert read().offload is None
    assert read("--offload-gib", "0.5").offload == OffloadPlan(2**29)
    plan = read(
        "--offload-gib=1", "--offload-folder=/kv", "--offload-folder-gib=2", "--worker-id=w"
    )
    assert plan.offload == OffloadPlan(2**30, Path("/kv/baton-w"), 2**31)


def test_a_folder_alone_is_refused() -> None:
    with pytest.raises(BadSettings, match="--offload-gib"):
        _ = read("--offload-folder", "/kv").offload


@pytest.mark.parametrize("value", [None, "", "0"])
def test_kv_is_not_spoilt_unless_this_is_a_test(
    monkeypatch: pytest.MonkeyPatch, value: str | None
) -> None:
    if value is not None:
        monkeypatch.setenv("BATON_TESTING", value)
    with pytest.raises(BadSettings, match=r"--kv-fault falsify .* BATON_TESTING=1") as refused:
        read("--kv-fault", "falsify")
    assert "\n" not in str(refused.value)
    monkeypatch.setenv("BATON_KV_FAULT", "corrupt")
    with pytest.raises(BadSettings, match=r"--kv-fault corrupt .* BATON_TESTING=1"):
        read()


def test_a_test_may_spoil_kv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATON_TESTING", "1")
    assert read().kv_fault == "none"
    assert read("--kv-fault", "falsify").kv_fault == "falsify"


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(WorkerSettings, PROGRAM, ["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for name, field in WorkerSettings.model_fields.items():
        assert (f"--{name.replace('_', '-')}" in shown) == (name != "kv_fault")
        assert field.description
