from __future__ import annotations

import json

import pytest

from gateway.routing.decider import Mode
from gateway.routing.explanation import MAX_KEPT, Explanation, Explanations
from tests.gateway.routing.builders import Desk, make_fleet, make_prompt


def explained(mode: Mode, control_share: float = 0.0) -> Explanation:
    desk = Desk(make_fleet("d1/1 d2/1", "p1/7"), mode, control_share=control_share)
    desk.add(make_prompt("a", 1000))
    desk.begin()
    found = desk.dispatcher.explanations.get("a")
    assert found is not None
    return found


def test_it_says_who_was_taken_and_what_spoke_for_them() -> None:
    content = explained(Mode.ALWAYS).content
    assert content["way"] == "remote"
    assert content["computed_by"] == "p1/7"
    assert content["decoded_by"] in ("d1/1", "d2/1")
    assert content["prompt_tokens"] == content["uncached_tokens"] == 1000
    assert content["kv_tokens"] == 1024
    assert content["compute"]["taken"] == "p1/7"
    candidates = content["decode"]["candidates"]
    assert {each["worker"] for each in candidates} == {"d1/1", "d2/1"}
    assert all(each["score"] > 0 and "step" in each for each in candidates)
    assert content["forecasts"].keys() == {"remote", "local"}


def test_computed_where_it_is_decoded() -> None:
    content = explained(Mode.NEVER).content
    assert content["computed_by"] == content["decoded_by"]
    assert content["decode"] is None


def test_it_is_json_without_anything_of_the_prompt() -> None:
    desk = Desk(make_fleet())
    desk.add(make_prompt("a", 12, session="my session", lora="my adapter"))
    desk.begin()
    found = desk.dispatcher.explanations.get("a")
    assert found is not None
    text = json.dumps(found.content, allow_nan=False)
    assert "my session" not in text
    assert "my adapter" not in text


def test_one_line_for_a_header() -> None:
    header = explained(Mode.ALWAYS).header()
    assert header.startswith("way=remote; prefill=p1; decode=d")
    assert "prompt=1000; uncached=1000" in header
    assert "control" not in header
    assert "control" in explained(Mode.AUTO, control_share=1.0).header()
    assert "\n" not in header


def test_the_last_ones_are_kept() -> None:
    explanations = Explanations()
    for number in range(MAX_KEPT + 5):
        explanations.add(Explanation({"number": number}), f"r{number}-end")
    assert explanations.get("r4-end") is None
    assert explanations.get("r5-end") is not None
    assert list(explanations.latest(2)) == [f"r{MAX_KEPT + 3}-end", f"r{MAX_KEPT + 4}-end"]
    assert len(explanations.latest(10 * MAX_KEPT)) == MAX_KEPT


def test_a_request_is_found_by_a_part_of_the_engines_id() -> None:
    explanations = Explanations()
    explanations.add(Explanation({"number": 1}), "cmpl-abc-0")
    found = explanations.get("abc")
    assert found is not None
    assert found.content == {"number": 1}
    assert explanations.get("abcd") is None


@pytest.mark.parametrize(
    ("part", "number"),
    [
        pytest.param("chatcmpl-f6cad4794320234f", 2, id="as a list shows it, cut off"),
        pytest.param("f6cad4", 2, id="six letters"),
        pytest.param("f6cad", None, id="five"),
        pytest.param("0234f", None, id="five of the end"),
        pytest.param("f6cad4794320234fa", 1, id="a whole part before any other"),
    ],
)
def test_a_request_is_found_by_six_letters_of_its_id(part: str, number: int | None) -> None:
    explanations = Explanations()
    explanations.add(Explanation({"number": 1}), "0_chatcmpl-f6cad4794320234fa-x1")
    explanations.add(Explanation({"number": 2}), "0_chatcmpl-f6cad4794320234fa9-x2")
    found = explanations.get(part)
    assert (found.content["number"] if found else None) == number


def test_who_is_placed_again_is_explained_anew() -> None:
    explanations = Explanations()
    for number in (1, 2):
        explanations.add(Explanation({"number": number}), "a")
    assert explanations.latest(5) == {"a": {"number": 2}}
