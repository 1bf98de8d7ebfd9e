from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from baton.cli import main
from fleet.member_load import MemberLoad
from fleet.redis_membership import RedisMembership
from tests.fleet.builders import make_member
from tests.fleet.server import RunningValkey


async def fill(url: str) -> None:
    async with RedisMembership.connect(url, "f") as membership:
        await membership.join(make_member("idle-0", port=9001), 60)
        await membership.renew(make_member("prefill-0"), 60, MemberLoad(3, 2, 100, 70))


def test_the_workers_of_a_fleet_elsewhere_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunningValkey(tmp_path) as server:
        asyncio.run(fill(server.url))
        assert main(["status", "--redis", server.url, "--fleet", "f"]) == 1
        _, idle, busy = capsys.readouterr().out.splitlines()
        assert main(["status", "--redis", server.url]) == 1
        assert capsys.readouterr().out == "Fleet baton has no workers\n"
    assert idle.split()[:3] == ["idle-0", "prefill", "127.0.0.1:9001"]
    assert busy.split()[:3] == ["prefill-0", "prefill", "127.0.0.1:9000"]
    assert busy.split()[-3:] == ["3", "2", "70/100"]


def test_a_password_in_a_bad_url_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--redis", "redis://u:s3cr3t/x@h:1"]) == 2
    assert "s3cr3t" not in capsys.readouterr().err
