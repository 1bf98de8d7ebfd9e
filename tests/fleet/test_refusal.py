"""Servers that answer and do not serve us: TLS, users, versions. One line says what to do."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from fleet import connection, refusal
from fleet.errors import BadFleetUrl, FleetRefused, FleetUnavailable
from fleet.redis_block_log import RedisBlockLog
from fleet.redis_membership import RedisMembership
from tests.fleet.builders import make_member
from tests.fleet.server import RunningServer
from tests.fleet.tls import Authority, tls_before

SECRET = "s3cr3t-w0rd"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.make(tmp_path)


async def refused(url: str, fleet: str = "f") -> str:
    """The one line that a process ends with."""
    async with RedisMembership.connect(url, fleet) as membership:
        with pytest.raises(FleetRefused) as caught:
            await membership.check()
    line = str(caught.value)
    assert "\n" not in line
    assert SECRET not in line
    return line


async def test_the_servers_that_are_supported_are_taken(server: RunningServer, fleet: str) -> None:
    for url in (server.url, server.limited_url(fleet)):
        async with RedisMembership.connect(url, fleet) as membership:
            await membership.check()


async def test_a_user_for_another_fleet_reads_which_rights_are_missing(
    server: RunningServer, fleet: str
) -> None:
    line = await refused(server.limited_url(f"{fleet}-other"), fleet)
    assert "permission" in line
    assert "docs/fleet-state.md has the ACL SETUSER line" in line


async def test_rights_that_are_missing_later_are_an_outage(
    server: RunningServer, fleet: str
) -> None:
    url = server.limited_url(f"{fleet}-other")
    async with RedisMembership.connect(url, fleet) as membership:
        with pytest.raises(FleetUnavailable, match="ACL SETUSER"):
            await membership.join(make_member(), 1)
    async with RedisBlockLog.connect(url, fleet) as log:
        with pytest.raises(FleetUnavailable, match="ACL SETUSER"):
            await log.end()


async def test_a_wrong_password_is_named_and_not_shown(server: RunningServer, fleet: str) -> None:
    line = await refused(f"unix://nobody:{SECRET}@{server.socket}")
    assert "user or password are wrong" in line
    assert str(server.socket) in line


async def test_a_missing_password_is_named(own_valkey: RunningServer) -> None:
    async with RedisMembership.connect(own_valkey.url, "f") as membership:
        await membership._client.config_set("requirepass", SECRET)
    assert "it wants a password" in await refused(own_valkey.url)
    async with RedisMembership.connect(f"unix://:{SECRET}@{own_valkey.socket}", "f") as membership:
        await membership.check()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        pytest.param("CONFIG SET maxmemory 1", "raise its maxmemory", id="full"),
        pytest.param("REPLICAOF 127.0.0.1 1", "name its primary", id="replica"),
    ],
)
async def test_a_server_that_cannot_be_written_to_is_named(
    own_valkey: RunningServer, words: str, reason: str
) -> None:
    async with RedisMembership.connect(own_valkey.url, "f") as membership:
        await membership._client.execute_command(*words.split())  # type: ignore[no-untyped-call]
        with pytest.raises(FleetRefused, match=reason):
            await membership.join(make_member(), 1)


async def test_an_old_server_is_named(
    valkey: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet.redis_client.OLDEST", (99, 0))
    monkeypatch.setattr(refusal, "OLDEST", (99, 0))
    assert "needs Redis 99.0 or newer" in await refused(valkey.url)


async def test_a_server_from_before_users_and_versions_is_named() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(2**16):
            writer.write(b"-ERR unknown command `HELLO`, with args beginning with: `3`, \r\n")
        writer.close()

    async with await asyncio.start_server(serve, "localhost", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        line = await refused(f"redis://localhost:{port}")
    assert "it is older than 6, and fleet state needs Redis 6.2" in line


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        pytest.param("TLSV13_ALERT_CERTIFICATE_REQUIRED", "?ssl_certfile=FILE", id="no-client"),
        pytest.param("WRONG_VERSION_NUMBER", "it is redis://", id="no-tls"),
        pytest.param("NO_SHARED_CIPHER", "TLS fails: no shared cipher", id="other"),
    ],
)
def test_what_a_server_says_by_tls(reason: str, words: str) -> None:
    error = ssl.SSLError(1, f"[SSL: {reason}] words")
    error.reason = reason
    outer = ConnectionError("Error while reading")
    outer.__cause__ = error
    assert words in str(refusal.refusal(outer))


async def test_tls_a_user_and_a_clients_certificate_together(
    server: RunningServer, fleet: str, authority: Authority
) -> None:
    credentials = server.limited_url(fleet).removeprefix("unix://").partition("@")[0]
    async with tls_before(server.socket, authority, wants_client=True) as port:
        url = f"rediss://{credentials}@localhost:{port}/0?{authority.options()}"
        async with RedisMembership.connect(url, fleet) as membership:
            await membership.check()
            member = make_member()
            await membership.join(member, 60)
            assert await membership.members() == (member,)
            assert repr(membership) == f"<RedisMembership {fleet} at rediss://localhost:{port}/0>"


async def test_a_certificate_that_is_not_trusted(
    valkey: RunningServer, authority: Authority
) -> None:
    async with tls_before(valkey.socket, authority) as port:
        line = await refused(f"rediss://:{SECRET}@localhost:{port}")
    assert "not trusted" in line
    assert "?ssl_ca_certs=FILE" in line


async def test_a_certificate_of_another_host(valkey: RunningServer, authority: Authority) -> None:
    async with tls_before(valkey.socket, authority, host="elsewhere.test") as port:
        line = await refused(f"rediss://localhost:{port}?ssl_ca_certs={authority.file}")
    assert "another host's" in line


async def test_a_missing_certificate_of_the_client(
    valkey: RunningServer, authority: Authority
) -> None:
    async with tls_before(valkey.socket, authority, wants_client=True) as port:
        line = await unavailable(f"rediss://localhost:{port}?ssl_ca_certs={authority.file}")
    assert "?ssl_certfile=FILE&ssl_keyfile=FILE" in line


async def test_tls_where_there_is_none_and_none_where_there_is(
    valkey: RunningServer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_before(valkey.socket, authority) as port:
        assert "it is rediss://" in await unavailable(f"redis://localhost:{port}")
    monkeypatch.setattr(connection, "CALL_SECONDS", 0.2)
    with socket.create_server(("localhost", 0)) as silent:
        port = silent.getsockname()[1]
        assert "it is redis://" in await unavailable(f"rediss://localhost:{port}")


async def unavailable(url: str) -> str:
    async with RedisMembership.connect(url, "f") as membership:
        with pytest.raises(FleetUnavailable) as caught:
            await membership.check()
    return str(caught.value)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param("redis://h?ssl_ca_certs=x", "needs TLS, which is rediss://", id="no-tls"),
        pytest.param("rediss://h?ssl_ca_certs=/none.pem", "no file /none.pem", id="no-file"),
        pytest.param("redis://h?colour=blue", "no option 'colour'", id="unknown"),
        pytest.param(f"redis://u:{SECRET}/x@h:1/0", "as %2F", id="slash-in-password"),
        pytest.param(f"redis://u:1{SECRET}#x@h:1/0", "as %2", id="hash-in-password"),
        pytest.param(f"http://u:{SECRET}@h", "starts with one of", id="scheme"),
        pytest.param(f"rediss://h?ssl_password={SECRET}&a=b", "no option 'a'", id="in-options"),
    ],
)
def test_a_bad_url_is_named_without_its_secrets(url: str, reason: str) -> None:
    with pytest.raises(BadFleetUrl) as caught:
        RedisMembership.connect(url, "f")
    assert reason in str(caught.value)
    assert SECRET not in str(caught.value)
