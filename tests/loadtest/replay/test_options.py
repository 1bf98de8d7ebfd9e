"""The command line: what it means, and one clear line for what it cannot."""

from __future__ import annotations

import pytest

from loadtest.replay.errors import BadInput
from loadtest.replay.options import Fleet, parse


def test_usual_options() -> None:
    options = parse(["agents"])
    assert options.fleets == (Fleet("", None, ()),)
    assert (options.vocabulary, options.num_clients, options.check) == (range(1000, 40000), 1, "")


def test_a_url_is_the_base() -> None:
    (fleet,) = parse(["agents", "--fleet", "http://127.0.0.1:8000/v1/"]).fleets
    assert fleet.url == "http://127.0.0.1:8000"


def test_each_compared_run_has_the_common_flags_and_its_own() -> None:
    words = ["agents", "--fleet-args", "--prefill 2"]
    words += ["--compare", "a=--routing default", "--compare", "b="]
    common = ("--prefill", "2")
    assert parse(words).fleets == (
        Fleet("a", None, (*common, "--routing", "default")),
        Fleet("b", None, common),
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "TRACE"),
        (["agents", "--scale", "0"], "--scale: must be above 0"),
        (["agents", "--requests", "0"], "--requests: must be at least 1"),
        (["agents", "--speed", "fast"], "--speed: invalid"),
        (["agents", "--vocabulary", "9..9"], "--vocabulary: needs two tokens"),
        (["agents", "--vocabulary", "x"], "--vocabulary: invalid"),
        (["agents", "--fleet", "localhost:8000"], "--fleet is sim or a URL"),
        (["agents", "--fleet", "http://x:99999"], "--fleet http://x:99999: Port out of range"),
        (["agents", "--fleet", "http://x", "--compare", "a="], "use --fleet sim"),
        (["agents", "--compare", "=--routing x"], "needs a name"),
        (["agents", "--compare", "a=", "--compare", "a="], "a name of its own"),
        (["agents", "--compare", 'a="'], "--compare: No closing quotation"),
        (["agents", "--plot", "x.txt"], "--plot: a file ending in"),
        (["agents", "--check", "nowhere:x"], "--check nowhere:x: No module"),
        (["agents", "--check", "json:x"], "--check json:x: module 'json' has no attribute"),
    ],
)
def test_bad_words_are_explained(words: list[str], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        parse(words)


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    text = capsys.readouterr().out
    assert "examples:" in text
    assert "--compare" in text
