from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.baton.running import Running


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.close()
