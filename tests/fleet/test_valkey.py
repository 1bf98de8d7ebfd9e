from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fleet import valkey
from fleet.errors import ValkeyMissing
from fleet.valkey import ValkeyServer, find_server


def test_the_wheels_server_is_found() -> None:
    assert find_server().name == "valkey-server"


def test_without_the_wheel_a_server_on_the_path_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = tmp_path / "redis-server"
    server.symlink_to(sys.executable)
    monkeypatch.setattr(valkey, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_server() == server


def test_without_any_server_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(valkey, "find_spec", lambda name: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValkeyMissing, match="--redis"):
        find_server()


def test_a_socket_path_that_the_kernel_would_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match="100 characters"):
        ValkeyServer(Path("/", "x" * 100))


def test_it_listens_on_a_socket_and_on_no_port() -> None:
    server = ValkeyServer(Path("/run/baton/valkey.sock"))
    command = " ".join(server.command())
    assert server.url == "unix:///run/baton/valkey.sock"
    assert "--port 0 --unixsocket /run/baton/valkey.sock --unixsocketperm 700" in command
