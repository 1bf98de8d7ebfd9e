from __future__ import annotations

from pathlib import Path

import pytest

from baton import plan
from baton.errors import BadSettings, FleetTaken, ServerUnreachable
from baton.plan import check_server, check_staging, served_name
from baton.settings import UpSettings
from fleet.redis_membership import RedisMembership
from tests.fleet.builders import make_member
from tests.fleet.server import RunningValkey
from tests.fleet.tls import Authority, tls_before


async def test_a_fleet_whose_names_are_taken_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "LEASE_SECONDS", -1.0)
    with RunningValkey(tmp_path) as server:
        async with RedisMembership.connect(server.url, "f") as membership:
            await membership.join(make_member("decode-1"), 60)
        await check_server(server.url, UpSettings(fleet="f", decode=1))
        with pytest.raises(FleetTaken, match="decode-1 is already in fleet 'f'"):
            await check_server(server.url, UpSettings(fleet="f", decode=2))


async def test_the_leases_of_workers_just_killed_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "POLL_SECONDS", 0.01)
    with RunningValkey(tmp_path) as server:
        async with RedisMembership.connect(server.url, "f") as membership:
            await membership.join(make_member("decode-0"), 0.1)
        await check_server(server.url, UpSettings(fleet="f"))


async def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(ServerUnreachable, match=r"--redis: fleet state at redis://127\.0\.0\.1:1"):
        await check_server("redis://:secret@127.0.0.1:1", UpSettings())


async def test_tls_and_a_fleets_user_are_enough(tmp_path: Path) -> None:
    authority = Authority.make(tmp_path)
    with RunningValkey(tmp_path) as server:
        user = server.limited_url("f").removeprefix("unix://").partition("@")[0]
        async with tls_before(server.socket, authority) as port:
            url = f"rediss://{user}@localhost:{port}/0?ssl_ca_certs={authority.file}"
            await check_server(url, UpSettings(redis=url, fleet="f"))
            with pytest.raises(ServerUnreachable, match=r"does not take us: .* ACL SETUSER"):
                await check_server(url, UpSettings(redis=url, fleet="g"))


def test_a_folder_is_served_under_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    assert served_name(f"{tmp_path}/tiny/") == "tiny"
    assert served_name("org/name") == "org/name"


def test_staging_in_a_gpus_memory_takes_a_gpu() -> None:
    check_staging(UpSettings(kv_staging="device"), ("0",))
    check_staging(UpSettings(), ())
    with pytest.raises(BadSettings, match="--kv-staging device: there is no GPU"):
        check_staging(UpSettings(kv_staging="device"), ())
