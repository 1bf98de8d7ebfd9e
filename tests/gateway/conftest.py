from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import httpx
import openai
import pytest
import pytest_asyncio

from gateway.settings import Settings
from gateway.start import prepare_environment
from tests.gateway.builders import PATIENCE_SECONDS
from tests.gateway.served_gateway import Served, served_gateway
from tests.gateway.tiny_model import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def whole_gateway(tiny_model: Path) -> AsyncIterator[Served]:
    prepare_environment(
        Settings.model_validate({"model": str(tiny_model), "fleet_key_file": "unread"})
    )
    with warnings.catch_warnings():
        # Importing vLLM and its libraries warns of much that is not ours.
        warnings.simplefilter("ignore")
        from tests.gateway.vllm_wire import VllmWire

        async with served_gateway(tiny_model, VllmWire(), max_body_mib=1) as served:
            yield served


@pytest_asyncio.fixture(loop_scope="session")
async def served(whole_gateway: Served) -> AsyncIterator[Served]:
    """A gateway over one prefill and one decode worker; afterwards nothing may be open."""
    for worker in whole_gateway.workers:
        worker.behave()
    await usable(whole_gateway)
    yield whole_gateway
    await nothing_open(whole_gateway)


@pytest_asyncio.fixture(loop_scope="session")
async def http(served: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=served.url, timeout=PATIENCE_SECONDS, trust_env=False
    ) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def client(served: Served) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{served.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def claude(served: Served) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=served.url, api_key="none", max_retries=0, timeout=PATIENCE_SECONDS
    ) as client:
        yield client


async def usable(served: Served) -> None:
    """Until every worker can take requests."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await served.gateway.roster.wait_for(1, 1, PATIENCE_SECONDS)


async def nothing_open(served: Served) -> None:
    """Until both ledgers are empty, the gateway's and the workers'."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for worker in served.workers:
            await worker.until(lambda worker=worker: not worker.open_legs)
        while served.gateway.book.lives:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    served.gateway.book.check_integrity()
