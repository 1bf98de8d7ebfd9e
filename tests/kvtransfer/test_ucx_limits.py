from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from kvtransfer.ucx import UcxTransport
from kvtransfer.ucx_limits import SPARE_FILES, files_open, num_links


@pytest.fixture
def few_files() -> Iterator[int]:
    """The limit of open files while the test runs."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = files_open() + SPARE_FILES + 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, limits[1]))
    yield few
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_links_are_as_many_as_files_can_be_opened(few_files: int) -> None:
    assert num_links(files_each=2) == 10
    assert num_links(files_each=12) == 5


def test_there_is_always_one(few_files: int) -> None:
    assert num_links(files_each=few_files) == 1


def test_so_many_links_can_be_made(few_files: int) -> None:
    here, there = UcxTransport(host=b"here"), UcxTransport(host=b"there")
    try:
        links = [here.connect(there.address) for _ in range(here.max_links)]
        assert len(links) > 1
        assert files_open() < few_files
    finally:
        here.close()
        there.close()
