"""The parts of the adapter that no HTTP request shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gateway.errors import StartError
from tests.gateway.served_gateway import Served

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    # vLLM's parts use what their libraries have deprecated.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


@pytest.fixture
def front_half(whole_gateway: Served) -> Any:
    """Imported once, where its warnings are expected."""
    from gateway import front_half

    return front_half


def options(front_half: Any, model: Path, **values: object) -> Any:
    given = {"model": str(model), "served_model_names": ("tiny",), "max_model_len": 64, **values}
    return front_half.FrontHalfOptions(**given)


async def test_the_users_flags_override_ours(front_half: Any, tiny_model: Path) -> None:
    words = "--tool-call-parser llama3_json --stream-interval 4"
    args = front_half.parse_args(options(front_half, tiny_model, engine_args=words))
    assert args.tool_call_parser == "llama3_json"
    assert args.served_model_name == ["tiny"]
    assert args.enable_auto_tool_choice
    config = front_half.make_config(args)
    assert config.model_config.max_model_len == 64
    assert config.scheduler_config.stream_interval == 4


async def test_a_flag_that_vllm_does_not_know_is_one_line(
    front_half: Any, tiny_model: Path
) -> None:
    with pytest.raises(StartError, match=r"--engine-args: .*--colour") as caught:
        front_half.parse_args(options(front_half, tiny_model, engine_args="--colour blue"))
    assert "\n" not in str(caught.value)


async def test_a_model_that_vllm_refuses_is_one_line(front_half: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "none", "architectures": ["None"]}')
    args = front_half.parse_args(options(front_half, tmp_path))
    with pytest.raises(StartError, match=r"^model ") as caught:
        front_half.make_config(args)
    assert "\n" not in str(caught.value)


async def test_vllms_own_client_is_back_after_the_swap(front_half: Any) -> None:
    client = front_half.EngineCoreClient
    original = client.__dict__["make_async_mp_client"]
    with front_half.fleet_for_engine("ours"):
        assert client.make_async_mp_client(anything=1) == "ours"
    assert client.__dict__["make_async_mp_client"] is original


async def test_garbage_is_a_value_error(front_half: Any) -> None:
    decode = front_half.OutputsDecoder()
    for frames in ([b"\xff"], [b"{}"], [], [b"\x93\x01"], [b"\x92\x00\x91\xa1x"]):
        with pytest.raises(ValueError, match="not engine core outputs"):
            decode(frames)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, True),
        ({"prompt_token_ids": [1]}, False),
        ({"prompt_token_ids": None}, False),
        ({"prompt_embeds": "tensor"}, False),
        ({"resumable": True}, False),
        ({"sampling_params": None, "pooling_params": "pooling"}, False),
        ({"prompt_logprobs": 1}, False),
    ],
)
async def test_what_can_be_handed_off(
    front_half: Any, change: dict[str, Any], expected: bool
) -> None:
    from vllm.sampling_params import SamplingParams

    sampling = SamplingParams(prompt_logprobs=change.pop("prompt_logprobs", None))
    values = {
        "request_id": "r",
        "prompt_token_ids": [1, 2],
        "mm_features": None,
        "sampling_params": sampling,
        "pooling_params": None,
        "arrival_time": 0.0,
        "lora_request": None,
        "cache_salt": None,
        "data_parallel_rank": None,
        **change,
    }
    assert front_half.can_hand_off(front_half.EngineCoreRequest(**values)) is expected
