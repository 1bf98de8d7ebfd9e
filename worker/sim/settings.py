"""Every setting of a process of simulated workers, its default and its meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.settings import Name

MAX_WORKERS = 1000


def check_slow(words: str) -> str:
    """Raises ValueError."""
    slow_factors(words)
    return words


def slow_factors(words: str) -> dict[str, float]:
    """How many times slower each of the named workers is. Raises ValueError."""
    pairs = [word.partition("=") for word in words.replace(",", " ").split()]
    factors = {name: float(factor or "nan") for name, _, factor in pairs}
    if not all(factor > 0 for factor in factors.values()):
        raise ValueError("names of workers with how many times slower they are: decode-3=2.0")
    return factors


Slow = Annotated[str, AfterValidator(check_slow)]


class SimSettings(BaseSettings):
    """Runs simulated workers, all in this one process: full members of the fleet, with the
    times, caches and hand-offs of real ones, and without a model. Answers are words that
    follow from the prompt; docs/simulation.md says how to check them.

    Flags go over environment variables (BATON_MODEL for --model, and so on), and those over
    the defaults. Example:

    python -m worker.sim --model ./SmolLM2-135M-Instruct --redis redis://127.0.0.1
    --fleet-key-file fleet.key --prefill 8 --decode 8 --speed 10
    """

    # The defaults of sizes are those of a real worker with the default model on a CPU.
    model_config = SettingsConfigDict(
        env_prefix="BATON_",
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )

    model: str = Field(
        min_length=1,
        description="folder of the model that is stood for: config.json, tokenizer, weights",
    )
    redis: str = Field(
        min_length=1, description="fleet state: a redis://, rediss:// or unix:// URL"
    )
    fleet_key_file: Path = Field(
        description="the fleet's key, which signs tickets: `baton key > FILE` makes one"
    )
    fleet: Name = Field("baton", description="the fleet's name; one Redis may hold several")
    prefill: int = Field(1, ge=0, le=MAX_WORKERS, description="number of prefill workers")
    decode: int = Field(1, ge=0, le=MAX_WORKERS, description="number of decode workers")
    both: int = Field(0, ge=0, le=MAX_WORKERS, description="number of workers that are both")
    host: str = Field("127.0.0.1", description="address that all listen on, each on a free port")
    profile: Path | None = Field(
        None, description="how fast they are: a file of `baton sim calibrate`"
    )
    speed: float = Field(1.0, gt=0, description="how many times faster than that they are")
    slow: Slow = Field("", description='some are slower: --slow "decode-3=2.0 prefill-0=1.5"')
    bandwidth_gbps: float | None = Field(
        None, gt=0, description="of each worker's network, each way; the profile's if not set"
    )
    kv_blocks: int = Field(364, ge=1, description="KV blocks of each worker")
    block_size: int = Field(128, ge=1, description="tokens in a block")
    max_model_len: int | None = Field(
        None, ge=1, description="most tokens of prompt and answer together; the model's if not set"
    )
    max_num_seqs: int = Field(256, ge=1, description="requests that a worker computes at once")
    max_num_batched_tokens: int = Field(640, ge=1, description="tokens of one step")
    long_prefill_token_threshold: int | None = Field(
        None, ge=1, description="of these at most so many of one prompt; 80 % if not set"
    )
    itl_goal_seconds: float = Field(
        0.2, ge=0, description="prompts are computed beside answers in pieces that it allows; 0: no"
    )
    kv_max_loads: int = Field(
        256, ge=1, description="prompts whose KV may be on its way to a worker; more wait"
    )
