"""The first requests of an engine, so that no user's is the first."""

from __future__ import annotations

import asyncio

from vllm.sampling_params import SamplingParams, StructuredOutputsParams
from vllm.v1.engine import EngineCoreRequest
from vllm.v1.engine.core_client import AsyncMPClient

from worker.errors import EngineNotStarted

WARM_UP_SECONDS = 120.0
PROMPT = (1, 2, 3, 4)
# So begin the names of these requests, and of no others.
WARM_UP = "warm-up-"


async def warm_up(core: AsyncMPClient) -> None:
    """Has everything built that vLLM builds at its first use. Raises EngineNotStarted."""
    waiting = {f"{WARM_UP}{i}": sampling for i, sampling in enumerate(warm_up_samplings())}
    for name, sampling in waiting.items():
        await core.add_request_async(warm_up_request(name, sampling))
    try:
        async with asyncio.timeout(WARM_UP_SECONDS):
            while waiting:
                outputs = (await core.get_output_async()).outputs
                for output in outputs:
                    if output.finished:
                        waiting.pop(output.request_id)
    except TimeoutError as error:
        reason = f"the engine did not answer within {WARM_UP_SECONDS:g} s"
        raise EngineNotStarted(reason) from error


def warm_up_samplings() -> tuple[SamplingParams, ...]:
    grammar = StructuredOutputsParams(regex="[0-9]{1,4}")
    # The engine takes its first grammar's backend for good; this is vLLM's first choice.
    grammar._backend = "xgrammar"
    return (
        SamplingParams(temperature=0.0, max_tokens=2, ignore_eos=True),
        SamplingParams(
            temperature=0.9, top_p=0.9, top_k=8, seed=1, logprobs=1, max_tokens=2,
            repetition_penalty=1.1, presence_penalty=0.1, ignore_eos=True,
        ),
        SamplingParams(temperature=0.0, max_tokens=2, structured_outputs=grammar),
    )  # fmt: skip


def warm_up_request(name: str, sampling: SamplingParams) -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id=name,
        prompt_token_ids=list(PROMPT),
        mm_features=None,
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=0.0,
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
