from __future__ import annotations

from pathlib import Path

import pytest

from gateway.errors import StartError
from gateway.routing.filters import FILTERS
from gateway.routing.pickers import PICKERS
from gateway.routing.policy import POLICIES, read_policy
from gateway.routing.profile import Profile
from gateway.routing.scorers import SCORERS
from tests.gateway.builders import Fleet
from tests.gateway.routing.builders import make_scene

WHOLE = "prefill: {scorers: {predicted: 1}}\ndecode: {}\nlocal: {picker: lottery}\n"


def policy_file(folder: Path, text: str) -> str:
    file = folder / "policy.yaml"
    file.write_text(text)
    return str(file)


def refusal(name: str) -> str:
    with pytest.raises(StartError) as caught:
        read_policy(name)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    return message


@pytest.mark.parametrize("name", POLICIES)
def test_our_own_policies_have_what_there_is(name: str) -> None:
    policy = read_policy(name)
    table = Fleet("d1", "p1").table
    for profile in (policy.prefill, policy.decode, policy.local):
        choice = Profile(profile).choose(make_scene(table), table.columns.can_decode)
        assert choice is not None
        assert choice.row == 0


def test_a_file_says_what_it_changes(tmp_path: Path) -> None:
    policy = read_policy(policy_file(tmp_path, WHOLE))
    assert policy.prefill.scorers == {"predicted": 1.0}
    assert policy.prefill.filters == ("capacity",)
    assert policy.decode.scorers == {}
    assert policy.local.picker == "lottery"


@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        pytest.param("{scorers: {magic: 1}}", SCORERS, id="scorer"),
        pytest.param("{filters: [capacity, magic]}", FILTERS, id="filter"),
        pytest.param("{picker: magic}", PICKERS, id="picker"),
    ],
)
@pytest.mark.parametrize("profile", ["prefill", "decode", "local"])
def test_an_unknown_plug_in_is_refused_with_those_that_there_are(
    tmp_path: Path, profile: str, wrong: str, known: dict[str, object]
) -> None:
    profiles = {"prefill": "{}", "decode": "{}", "local": "{}", profile: wrong}
    text = "\n".join(f"{name}: {content}" for name, content in profiles.items())
    message = refusal(policy_file(tmp_path, text))
    assert "'magic'" in message
    assert all(name in message for name in known)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param(WHOLE + "more: {}", "more", id="unknown key"),
        pytest.param("prefill: {color: 1}\ndecode: {}\nlocal: {}", "color", id="in a profile"),
        pytest.param("prefill: {}\nlocal: {}", "decode", id="missing profile"),
        pytest.param("", "object", id="empty"),
        pytest.param("[prefill", "", id="no YAML"),
        pytest.param("prefill: [1, 2]", "prefill", id="no profile"),
        pytest.param("prefill: {picker: 3}\ndecode: {}\nlocal: {}", "picker", id="no name"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_line(tmp_path: Path, text: str, named: str) -> None:
    assert named in refusal(policy_file(tmp_path, text))


@pytest.mark.parametrize("weight", ["-1", "1001", ".nan", ".inf", "much", "null", "true", "[1]"])
def test_a_weight_is_from_0_to_1000(tmp_path: Path, weight: str) -> None:
    text = f"prefill: {{scorers: {{load: {weight}}}}}\ndecode: {{}}\nlocal: {{}}"
    assert "prefill.scorers" in refusal(policy_file(tmp_path, text))


def test_a_file_that_is_no_text_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(b"\xff\xfe\xfa")
    refusal(str(file))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(str(tmp_path / "none.yaml"))
    assert "directory" in refusal(make_folder(tmp_path / "folder.yaml"))


def make_folder(path: Path) -> str:
    path.mkdir()
    return str(path)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    message = refusal("fastest")
    assert all(name in message for name in POLICIES)
    assert ".yaml" in message
