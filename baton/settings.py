"""Every setting of `baton up`, its default and its meaning."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from baton.model import DEFAULT_MODEL
from fleet.keys import check_fleet
from fleet.url import check_url


def check_words(words: str) -> str:
    """Raises ValueError if a shell could not split it into arguments."""
    shlex.split(words)
    return words


Words = Annotated[str, AfterValidator(check_words)]
RedisUrl = Annotated[str, AfterValidator(check_url)]
FleetName = Annotated[str, AfterValidator(check_fleet)]


class StateSettings(BaseModel):
    """What every command needs."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    state_dir: Path | None = Field(
        default=None,
        description="folder of the run's state, socket and logs (default: run in .baton)",
    )


class UpSettings(StateSettings):
    """What `baton up` starts, and how."""

    model: str = Field(
        default=DEFAULT_MODEL,
        min_length=1,
        description="a local folder, a hub id, or the default model",
    )
    served_model_name: str | None = Field(
        default=None, min_length=1, description="the model's name for clients (default: its own)"
    )
    prefill: int = Field(default=1, ge=0, description="number of prefill workers")
    decode: int = Field(default=1, ge=1, description="number of decode workers")
    host: str = Field(
        default="127.0.0.1", min_length=1, description="address the gateway listens on"
    )
    port: int = Field(default=8000, ge=0, le=65535, description="its port; 0 takes a free one")
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        description="gateway processes that share the port, each good for about one core",
    )
    dtype: str = Field(default="auto", description="number format of the weights, as vLLM names it")
    max_model_len: int | None = Field(
        default=None,
        ge=1,
        description="most tokens of prompt and answer together (default: the model's)",
    )
    kv_cache_gib: int = Field(
        default=1,
        ge=1,
        description="KV cache of each worker on a CPU, in GiB; a GPU's is what is free",
    )
    kv_connector: Literal["baton", "nixl"] = Field(
        default="baton",
        description="what moves KV between the workers: Baton itself, or vLLM's NixlConnector",
    )
    staging_mib: int = Field(
        default=16, ge=1, description="memory of each worker through which KV passes, in MiB"
    )
    kv_staging: Literal["host", "device"] = Field(
        default="host",
        description="where that memory is: this machine's, or the GPU's own (GPUDirect)",
    )
    kv_wire: Literal["raw", "fp8", "int8"] = Field(
        default="raw", description="form in which KV travels; a smaller one costs some accuracy"
    )
    kv_stall_seconds: float = Field(
        default=10,
        gt=0,
        le=3600,
        description="a worker that is silent for so long is given up, and its KV computed again",
    )
    kv_max_loads: int = Field(
        default=256,
        ge=1,
        description="prompts whose KV may be on its way to a decode worker; more wait",
    )
    offload_gib: float | None = Field(
        default=None,
        gt=0,
        description="host memory of each prefill worker for KV that has left its cache, in GiB",
    )
    offload_folder: Path | None = Field(
        default=None, description="folder for KV that has left that memory, too"
    )
    offload_folder_gib: float = Field(
        default=16, gt=0, description="what each prefill worker may take of it, in GiB"
    )
    engine_args: Words = Field(
        default="", description="more vLLM flags for every worker, in one string"
    )
    prefill_args: Words = Field(default="", description="more vLLM flags for the prefill workers")
    decode_args: Words = Field(default="", description="more vLLM flags for the decode workers")
    sim: bool = Field(
        default=False,
        description="simulate the workers, all in one process: no model is loaded, and answers "
        "are words without sense (docs/simulation.md)",
    )
    sim_speed: float = Field(
        default=1, gt=0, description="how many times faster than the real ones they are"
    )
    sim_profile: Path | None = Field(
        default=None,
        description="how fast those are: a file of `baton sim calibrate` "
        "(default: the default model on one core)",
    )
    sim_args: Words = Field(
        default="",
        description='more flags of `python -m worker.sim`: --sim-args="--kv-blocks 4096"',
    )
    redis: RedisUrl | None = Field(
        default=None,
        description="fleet state: redis://, rediss:// or unix:// (default: embedded Valkey)",
    )
    fleet: FleetName = Field(
        default="baton", description="the fleet's name; one Redis may hold several"
    )
    fleet_key_file: Path | None = Field(
        default=None,
        description="the fleet's key, of `baton key > FILE` (default: a new one for each run)",
    )
    dispatch: Literal["together", "prefill-first"] = Field(
        default="together",
        description="when decode starts: together with prefill, or only after it",
    )
    routing: str = Field(
        default="default",
        min_length=1,
        description="how workers are chosen: default, round-robin, least-loaded, prefix, or a "
        ".yaml file (docs/routing.md)",
    )
    disaggregation: Literal["auto", "always", "never"] = Field(
        default="auto",
        description="who computes prompts: a prefill worker always, or never, or (auto) for "
        "each size of prompt the way that is better by the goals as measured, and the other one "
        "where that costs much less now",
    )
    ttft_goal_seconds: float = Field(
        default=2, gt=0, description="goal for the time to the first token"
    )
    itl_goal_seconds: float = Field(
        default=0.2, gt=0, description="goal for the time from one token to the next"
    )
    control_share: float = Field(
        default=0.02,
        ge=0,
        le=0.5,
        description="of the requests that could go either way, how many take the other one, so "
        "that the gain stays known; fewer where that costs much; 0: none",
    )
    start_timeout_seconds: float = Field(
        default=600, gt=0, description="give up when a process is not ready after so long"
    )
    detach: bool = Field(default=False, description="return when ready, serve in the background")


class CalibrateSettings(BaseModel):
    """What `baton sim calibrate` measures, and where the result goes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    url: str = Field(
        default="http://127.0.0.1:8000", min_length=1, description="the gateway of a real fleet"
    )
    out: Path = Field(default=Path("sim.json"), description="file for the profile")
    longest: int = Field(default=4096, ge=256, description="tokens of the longest prompt")
    streams: int = Field(
        default=8, ge=2, description="answers that each decode worker generates at once, at most"
    )
    chunk_tokens: int = Field(
        default=512, ge=1, description="tokens of one prompt that the engines compute in a step"
    )
    repeats: int = Field(
        default=2, ge=1, description="times that each is measured; the fastest counts"
    )
