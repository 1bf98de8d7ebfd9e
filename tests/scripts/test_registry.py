from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.registry import pip_options, uv_environment


def test_pip_s_files_and_variables_are_read_and_variables_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nfind-links = /a/file\nextra-index-url =\n    https://one.example/simple\n"
        "    https://two.example/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_FIND_LINKS", "/a/variable /another")
    options = pip_options(Path(sys.executable))
    assert options["find-links"] == "/a/variable /another"
    assert options["extra-index-url"].split() == [
        "https://one.example/simple",
        "https://two.example/simple",
    ]


def test_options_are_told_to_uv_in_its_own_words() -> None:
    options = {
        "find-links": "/one /two",
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "https://one.example\nhttps://two.example",
        "cert": "/etc/ca.pem",
    }
    assert uv_environment(options, {}) == {
        "UV_FIND_LINKS": "/one,/two",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://one.example https://two.example",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }


def test_what_the_user_set_for_uv_stays() -> None:
    options = {"find-links": "/pip"}
    assert uv_environment(options, {"UV_FIND_LINKS": "/uv"}) == {"UV_FIND_LINKS": "/uv"}


def test_a_machine_without_options_gets_none() -> None:
    assert uv_environment({}, {"HOME": "/home"}) == {"HOME": "/home"}
