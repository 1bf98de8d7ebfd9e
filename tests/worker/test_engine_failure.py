from __future__ import annotations

import pytest

from worker.engine_failure import MAX_LENGTH, cause_of, exit_reason, one_line

PYDANTIC = """1 validation error for ModelConfig
  Value error, User-specified max_model_len (99999) is greater than the derived max_model_len \
(8192). [type=value_error, input_value=ArgsKwargs((), {'model': ...}), input_type=ArgsKwargs]
    For further information visit https://errors.pydantic.dev/2.14/v/value_error"""


def test_pydantics_wrapping_is_taken_off_and_a_way_out_added() -> None:
    assert one_line(ValueError(PYDANTIC)) == (
        "User-specified max_model_len (99999) is greater than the derived max_model_len (8192); "
        "use a smaller --max-model-len"
    )


def test_a_way_out_takes_the_place_of_vllms_own_advice() -> None:
    advice = "No available memory for the cache blocks. Try increasing `gpu_memory_utilization`."
    assert one_line(ValueError(advice)) == (
        "No available memory for the cache blocks; use a larger --kv-cache-gib"
    )


def test_a_long_story_is_cut_to_its_first_line() -> None:
    assert one_line(RuntimeError("\n  first\nsecond")) == "first"
    assert len(one_line(RuntimeError("x" * 10_000))) == MAX_LENGTH


def test_an_error_without_words_has_a_name() -> None:
    assert one_line(AssertionError()) == "AssertionError"


def test_what_the_engine_said_itself_comes_first() -> None:
    wrapped = RuntimeError("Failed core proc(s): {'EngineCore': 1}")
    assert cause_of(wrapped, "ValueError: no") == "ValueError: no"
    assert cause_of(RuntimeError("what"), None) == "what"


@pytest.mark.parametrize(
    ("code", "reason"),
    [(-9, "want of memory"), (-11, "SIGSEGV"), (1, "exited with code 1")],
)
def test_an_exit_code_is_put_into_words(code: int, reason: str) -> None:
    wrapped = RuntimeError(f"See root cause above. Failed core proc(s): {{'EngineCore': {code}}}")
    assert reason in cause_of(wrapped, None)
    assert reason in exit_reason(code)
