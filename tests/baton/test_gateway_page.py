from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from baton.cli import main
from baton.errors import NoAnswer
from baton.gateway_page import base_of, fetch, names_of
from baton.identity import ProcessIdentity
from baton.run_state import RunState
from tests.baton.small_gateway import small_gateway

COMMANDS = ["index", "explain", "decision"]


def own_state(url: str, *, is_up: bool = True, pid: int | None = None) -> RunState:
    """Of a run whose supervisor is this process."""
    identity = ProcessIdentity.of(pid or os.getpid())
    assert identity
    return RunState(identity, url, "tiny", "baton", "", 0.0, is_up, ())


def failed(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line on stderr."""
    written = capsys.readouterr()
    assert not written.out
    assert written.err.startswith("error: ")
    assert written.err.count("\n") == 1
    return written.err


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000", "http://h:8000"),
        ("h:8000", "http://h:8000"),
        ("https://h/", "https://h"),
        ("http://h:8000/v1", "http://h:8000"),
        ("http://h/baton/v1/", "http://h/baton"),
    ],
)
def test_a_gateway_may_be_named_as_people_write_it(url: str, base: str) -> None:
    assert base_of(url) == base


def test_two_workers_of_one_id_are_told_apart() -> None:
    assert names_of(["a/1", "b/1", "b/2", "a/1"]) == {"a/1": "a", "b/1": "b/1", "b/2": "b/2"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_that_nothing_runs_out_of_is_a_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main(["fleet", command, "--state-dir", str(tmp_path)]) == 3
    error = failed(capsys)
    assert str(tmp_path) in error
    assert "`baton up`" in error
    assert "--url" in error


def test_the_gateway_of_the_run_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_gateway(explain={"requests": {}}) as gateway:
        own_state(gateway.url).save(tmp_path / "state.json")
        assert main(["fleet", "explain", "--state-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "No request has been sent to a worker yet\n"


def test_a_run_that_starts_has_no_gateway_yet(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own_state("http://127.0.0.1:1", is_up=False).save(tmp_path / "state.json")
    assert main(["fleet", "index", "--state-dir", str(tmp_path)]) == 1
    assert "still starting" in failed(capsys)


def test_a_gateway_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        assert main(["fleet", "index", "--url", url]) == 1
    error = failed(capsys)
    assert f"nothing answers at {url} (Connection refused)" in error
    assert "--url" in error


def test_a_gateway_that_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(NoAnswer, match=rf"{url} has not answered within 0\.1 s: try again"):
            fetch(url, "/fleet/index", 0.1)


@pytest.mark.parametrize("command", COMMANDS)
def test_an_older_gateway_without_the_page(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    with small_gateway() as gateway:
        assert main(["fleet", command, "--url", gateway.url]) == 1
    assert f"is older and has no page /fleet/{command}: start it anew" in failed(capsys)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param((200, b"<html>"), id="another-page"),
        pytest.param((404, b"<html>"), id="another-404"),
        pytest.param((502, {"error": "no"}), id="a-proxy"),
    ],
)
def test_what_is_no_gateway(capsys: pytest.CaptureFixture[str], answer: tuple[int, Any]) -> None:
    with small_gateway() as server:
        server.pages = {"/fleet/index": answer}
        assert main(["fleet", "index", "--url", server.url]) == 1
    assert "does not answer as a Baton gateway would" in failed(capsys)


def test_an_answer_in_another_form_can_still_be_had(capsys: pytest.CaptureFixture[str]) -> None:
    page = {"num_blocks": "many"}
    with small_gateway(index=page) as gateway:
        assert main(["fleet", "index", "--url", gateway.url]) == 1
        assert "of another version" in failed(capsys)
        assert main(["fleet", "index", "--json", "--url", gateway.url]) == 0
    assert capsys.readouterr().out == '{\n  "num_blocks": "many"\n}\n'


def test_an_address_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fleet", "index", "--url", "ftp://h"]) == 2
    assert "--url ftp://h" in failed(capsys)


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_each_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["fleet", *command.split(), "--help"])
    assert caught.value.code == 0
    assert f"baton fleet {command}" in capsys.readouterr().out
