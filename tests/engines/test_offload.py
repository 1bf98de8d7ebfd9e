"""Cold KV of real engines: out of the cache, back again, and handed over with the right tokens."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvtransfer.handoff import DecodeHandoff, PrefillHandoff, to_params
from kvtransfer.offload import OffloadPlan
from tests.engines.conftest import StartEngine, make_prompt
from tests.engines.host import Generate, Generated
from tests.engines.kv_events import BLOCK_SIZE, Index
from tests.engines.pair import LEASE_SECONDS, Engine

# Of the cache, of host memory, of the folder. A prompt takes NUM_BLOCKS and one more, and vLLM
# keeps one: no two prompts are in the cache at once.
CACHE_BLOCKS, HOST_BLOCKS, FOLDER_BLOCKS = 16, 30, 100
NUM_BLOCKS = 14
BLOCK_BYTES = 4 * 2 * BLOCK_SIZE * 64 * 4
NUM_TOKENS = NUM_BLOCKS * BLOCK_SIZE + 5
SMALL_CACHE = {"num_gpu_blocks_override": CACHE_BLOCKS, "max_model_len": 15 * BLOCK_SIZE}
SALT = "the same for all"

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def make_plan(folder: Path | None = None) -> OffloadPlan:
    return OffloadPlan(HOST_BLOCKS * BLOCK_BYTES, folder, FOLDER_BLOCKS * BLOCK_BYTES)


def submit(engine: Engine, prompt: list[int], max_tokens: int, **options: object) -> str:
    """Under the one salt, so that what is kept of a prompt is found again."""
    name = secrets.token_hex(4)
    engine.submit(Generate(name, tuple(prompt), max_tokens, SALT, **options))  # type: ignore[arg-type]
    return name


def hand_over(prefill: Engine, decode: Engine, prompt: list[int]) -> tuple[Generated, Generated]:
    """What the prefill leg and the decode leg have brought."""
    ticket = secrets.token_bytes(16)
    to_decode = DecodeHandoff(ticket, LEASE_SECONDS, "prefill/1", prefill.addresses)
    decode_leg = submit(decode, prompt, 8, handoff=to_params(to_decode))
    to_prefill = to_params(PrefillHandoff(ticket, LEASE_SECONDS))
    prefill_leg = submit(prefill, prompt, 1, handoff=to_prefill)
    return prefill.result(prefill_leg), decode.result(decode_leg)


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    with Index() as index:
        yield index


@pytest.fixture(scope="module")
def decode(start_for_all: StartEngine) -> Engine:
    return start_for_all("llama", offload=make_plan(), **SMALL_CACHE)


@pytest.fixture(scope="module")
def prefill(
    start_for_all: StartEngine,
    decode: Engine,
    index: Index,
    tmp_path_factory: pytest.TempPathFactory,
) -> Engine:
    engine = start_for_all(
        "llama",
        offload=make_plan(tmp_path_factory.mktemp("folder") / "baton-prefill"),
        events=index.endpoint,
        **SMALL_CACHE,
    )
    # What is told before the two ends know each other is lost.
    while not index.listen():
        engine.compute(make_prompt(0, BLOCK_SIZE), 1)
    return engine


def test_cold_kv_comes_back_from_each_place_and_is_handed_over(
    prefill: Engine, decode: Engine, index: Index
) -> None:
    prompt, *others = (make_prompt(seed, NUM_TOKENS) for seed in range(5))
    expected = decode.compute(prompt, 8).tokens
    first, answer = hand_over(prefill, decode, prompt)
    assert (first.num_cached, answer.tokens) == (0, expected)
    index.wait_until(lambda: len(index.blocks("STORAGE", prompt)) == NUM_BLOCKS)
    assert index.blocks("GPU", prompt) == index.blocks("CPU", prompt)
    assert index.blocks("CPU", prompt) == index.blocks("STORAGE", prompt)

    hand_over(prefill, decode, others[0])
    index.wait_until(lambda: not index.blocks("GPU", prompt))
    assert len(index.blocks("CPU", prompt)) == NUM_BLOCKS
    second, answer = hand_over(prefill, decode, prompt)
    assert (second.num_cached, answer.tokens) == (NUM_BLOCKS * BLOCK_SIZE, expected)

    for other in others[1:]:
        hand_over(prefill, decode, other)
    index.wait_until(lambda: not index.blocks("CPU", prompt))
    assert len(index.blocks("STORAGE", prompt)) == NUM_BLOCKS
    third, answer = hand_over(prefill, decode, prompt)
    assert (third.num_cached, answer.tokens) == (NUM_BLOCKS * BLOCK_SIZE, expected)
    assert prefill.wait_until_free().sends_failed == 0
    assert decode.wait_until_free().loads_failed == 0


def test_kv_that_came_from_elsewhere_is_kept_as_well(prefill: Engine, decode: Engine) -> None:
    """The decode engine's cache has room for one prompt: what it is handed pushes the last one
    out, and a prompt that comes back without a hand-off is not computed anew.
    """
    prompts = [make_prompt(seed, NUM_TOKENS) for seed in range(10, 12)]
    expected = [decode.compute(prompt, 8).tokens for prompt in prompts]
    for prompt, tokens in zip(prompts, expected, strict=True):
        _, answer = hand_over(prefill, decode, prompt)
        assert answer.tokens == tokens
    for prompt, tokens in zip(prompts, expected, strict=True):
        found = decode.result(submit(decode, prompt, 8))
        assert (found.num_cached, found.tokens) == (NUM_BLOCKS * BLOCK_SIZE, tokens)
