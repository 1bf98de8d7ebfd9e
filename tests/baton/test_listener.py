from __future__ import annotations

import socket

import pytest

from baton.errors import BadAddress
from baton.listener import base_url, free_port


def test_a_free_port_may_be_taken() -> None:
    port = free_port("127.0.0.1", 0)
    assert port
    assert free_port("127.0.0.1", port) == port


def test_a_port_where_someone_listens_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(BadAddress, match=f"port {port} on 127.0.0.1 is taken"):
            free_port("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(BadAddress, match=f"cannot listen on {host}"):
        free_port(host, 0)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
        ("fleet.example", "http://fleet.example:8000"),
    ],
)
def test_the_url_is_one_that_a_client_here_can_use(host: str, url: str) -> None:
    assert base_url(host, 8000) == url
