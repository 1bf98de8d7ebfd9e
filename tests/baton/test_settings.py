from __future__ import annotations

import os
from pathlib import Path

import pytest

from baton.errors import BadSettings
from baton.layers import load
from baton.parser import make_parser
from baton.settings import UpSettings

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "deploy" / "baton.sample.yaml"


def write(folder: Path, text: str) -> Path:
    path = folder / "baton.yaml"
    path.write_text(text)
    return path


def test_flags_win_over_variables_and_variables_over_the_file(tmp_path: Path) -> None:
    config = write(tmp_path, "prefill: 2\ndecode: 3\nport: 9000\n")
    environment = {"BATON_DECODE": "4", "BATON_PORT": "9001", "BATON_REDIS": ""}
    settings = load(UpSettings, {"port": "9002"}, environment, config)
    assert (settings.prefill, settings.decode, settings.port) == (2, 4, 9002)
    assert settings.redis is None


def test_variables_of_the_single_processes_are_not_ours_to_judge() -> None:
    environment = {"BATON_WORKER_ID": "a", "BATON_EXPECT_PREFILL": "1", "BATON_HOME": "/x"}
    assert load(UpSettings, {}, environment) == UpSettings()


@pytest.mark.parametrize(
    ("flags", "environment", "text", "complaint"),
    [
        pytest.param({"decode": "0"}, {}, "", r"--decode '0': .*greater than", id="flag"),
        pytest.param({}, {"BATON_PORT": "x"}, "", r"BATON_PORT 'x': .*integer", id="variable"),
        pytest.param({}, {}, "port: 70000", r"port in .*baton.yaml 70000: .*less", id="file"),
        pytest.param({}, {}, "prefil: 2", r"prefil in .* did you mean prefill\?", id="unknown-key"),
        pytest.param({}, {"BATON_PREFIL": "2"}, "", "BATON_PREFIL sets nothing", id="slip"),
        pytest.param({}, {}, "- 1", "must hold `key: value` lines", id="a-list"),
        pytest.param({}, {}, "a: [", "is not YAML", id="broken-yaml"),
        pytest.param({"engine_args": "'"}, {}, "", "--engine-args .*quotation", id="quotes"),
        pytest.param({"redis": "http://h"}, {}, "", "--redis .*redis://", id="redis"),
        pytest.param({"kv_wire": "fp4"}, {}, "", "--kv-wire 'fp4': .*'raw', 'fp8'", id="wire"),
        pytest.param({"fleet": "a b"}, {}, "", "--fleet 'a b'", id="fleet"),
        pytest.param(
            {"port": "x", "decode": "y"}, {}, "", "--decode 'y'.*; --port 'x'", id="all-at-once"
        ),
    ],
)
def test_a_bad_key_is_named_as_its_user_wrote_it(
    tmp_path: Path, flags: dict[str, str], environment: dict[str, str], text: str, complaint: str
) -> None:
    with pytest.raises(BadSettings, match=complaint) as caught:
        load(UpSettings, flags, environment, write(tmp_path, text))
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match=r"--config .*absent\.yaml: No such file"):
        load(UpSettings, {}, {}, tmp_path / "absent.yaml")


def test_the_sample_file_names_every_setting_with_its_default() -> None:
    assert load(UpSettings, {}, {}, SAMPLE) == UpSettings()
    lines = [line for line in SAMPLE.read_text().splitlines() if line and line[0] != "#"]
    assert {line.partition(":")[0] for line in lines} == UpSettings.model_fields.keys()


def test_only_what_was_given_leaves_a_trace() -> None:
    given = vars(make_parser().parse_args(["up", "--prefill", "2", "--no-detach"]))
    assert given == {"command": "up", "prefill": "2", "detach": False}


@pytest.mark.parametrize(
    "command", [[], ["up"], ["down"], ["status"], ["logs"], ["key"], ["model"]]
)
def test_every_command_explains_itself(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args([*command, "--help"])
    assert caught.value.code == 0
    assert "usage: baton" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["up", "--prefil", "2"], ["upp"], [], ["up", "--decode"]])
def test_what_cannot_be_understood_is_refused_in_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        make_parser().parse_args(words)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_help_shows_every_flag_of_up(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        make_parser().parse_args(["up", "--help"])
    shown = capsys.readouterr().out
    assert all(f"--{name.replace('_', '-')}" in shown for name in UpSettings.model_fields)
    assert os.linesep in shown
