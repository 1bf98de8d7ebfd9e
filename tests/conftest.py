from __future__ import annotations

import logging

import pytest


@pytest.fixture(autouse=True)
def _warnings_are_heard(caplog: pytest.LogCaptureFixture) -> None:
    """A library under vLLM raises the root logger's level, for every later test of the run."""
    caplog.set_level(logging.WARNING)
