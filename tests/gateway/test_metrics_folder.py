from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from gateway.metrics_folder import OWNER, metrics_folder


def test_only_what_a_killed_gateway_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left, foreign = tmp_path / "baton-gateway-left", tmp_path / "baton-gateway-foreign"
    left.mkdir()
    (left / OWNER).touch()
    foreign.mkdir()
    with metrics_folder() as one, metrics_folder() as other:
        assert {*tmp_path.iterdir()} == {one, other, foreign}
    assert {*tmp_path.iterdir()} == {foreign}
