"""Every setting of a worker process, its default and its meaning."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    CliSuppress,
    SettingsConfigDict,
    SettingsError,
)

from fleet.member import check_name
from kvtransfer.offload import OffloadPlan
from worker.errors import BadSettings
from worker.memory import GIB

ENV_PREFIX = "BATON_"
# Without it nothing spoils KV.
TESTING = "BATON_TESTING"
WILDCARDS = ("0.0.0.0", "::", "[::]", "")
REMEDIES: Mapping[str, str] = MappingProxyType(
    {"fleet_key_file": ": `baton key > FILE` makes one for the whole fleet"}
)


def check_words(words: str) -> str:
    """Raises ValueError if a shell could not split it into arguments."""
    shlex.split(words)
    return words


def check_id(name: str) -> str:
    check_name("the name", name)
    return name


Words = Annotated[str, AfterValidator(check_words)]
Name = Annotated[str, AfterValidator(check_id)]


class WorkerSettings(BaseSettings):
    """Flags go over environment variables (BATON_MODEL for --model, and so on), and those
    over the defaults.
    """

    model_config = SettingsConfigDict(
        allow_inf_nan=False,
        env_prefix=ENV_PREFIX,
        cli_kebab_case=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )

    model: str = Field(min_length=1, description="folder with config.json, weights and tokenizer")
    worker_id: Name = Field(description="this worker's name in the fleet, kept over restarts")
    redis: str = Field(
        min_length=1, description="fleet state: a redis://, rediss:// or unix:// URL"
    )
    fleet_key_file: Path = Field(
        description="the fleet's key, which signs tickets: `baton key > FILE` makes one"
    )
    fleet: Name = Field("baton", description="the fleet's name; one Redis may hold several")
    host: str = Field("127.0.0.1", description="address to listen on for gateways")
    port: int = Field(0, ge=0, le=65535, description="its port; 0 takes a free one")
    advertise: str | None = Field(
        None, min_length=1, description="address that gateways reach --host by, if it is another"
    )
    dtype: str = Field("auto", description="number format of the weights, as vLLM names it")
    max_model_len: int | None = Field(
        None, ge=1, description="most tokens of prompt and answer together; the model's if not set"
    )
    kv_cache_gib: int | None = Field(
        None, ge=1, description="KV cache on a CPU, in GiB; 1 if not set. A GPU's is what is free"
    )
    offload_gib: float | None = Field(
        None, gt=0, description="host memory for KV that the cache has no room for, in GiB"
    )
    offload_folder: Path | None = Field(
        None, description="folder for KV that has no room there either; needs --offload-gib"
    )
    offload_folder_gib: float = Field(16, gt=0, description="what that folder may take, in GiB")
    engine_args: Words = Field(
        "", description='more vLLM flags in one string: --engine-args="--block-size 64"'
    )
    staging_mib: int = Field(
        16, ge=1, description="memory through which KV passes to and from the network, in MiB"
    )
    kv_staging: Literal["host", "device"] = Field(
        "host",
        description="where that memory is: this machine's, or the GPU's own, which the network "
        "then reads and writes (GPUDirect)",
    )
    kv_connector: Literal["baton", "nixl"] = Field(
        "baton",
        description="what moves KV between workers: Baton itself, or vLLM's NixlConnector, which "
        "pulls it when the prefill is done",
    )
    nixl_port: int = Field(
        0, ge=0, le=65535, description="port for NIXL's handshakes; 0 takes a free one"
    )
    kv_wire: Literal["raw", "fp8", "int8"] = Field(
        "raw",
        description="form in which KV travels; a smaller one is used between two workers that "
        "both name it, and costs some accuracy",
    )
    kv_stall_seconds: float = Field(
        10,
        gt=0,
        le=3600,
        description="a peer that is silent for so long is given up, and its KV computed here",
    )
    itl_goal_seconds: float = Field(
        0.2,
        ge=0,
        description="goal for the time between tokens: beside running answers, prompts are "
        "computed in pieces that it leaves room for; 0 computes whole steps",
    )
    kv_max_loads: int = Field(
        256,
        ge=1,
        description="prompts whose KV may be on its way here; more wait, holding no KV blocks",
    )
    kv_fault: CliSuppress[Literal["none", "corrupt", "falsify"]] = Field(
        "none",
        description="spoils the KV that is sent, for tests that must notice it: on its way, or "
        f"before it is sealed; only with {TESTING}=1",
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        # --help shows it, and would keep the indentation.
        cls.__doc__ = cleandoc(cls.__doc__ or "")

    @property
    def is_local(self) -> bool:
        """Only this machine can reach it."""
        return self.host in ("127.0.0.1", "::1", "localhost")

    @property
    def offload(self) -> OffloadPlan | None:
        """Raises BadSettings for a folder without the memory before it."""
        if self.offload_gib is None:
            if self.offload_folder is not None:
                raise BadSettings("--offload-folder: KV gets there through --offload-gib")
            return None
        host_bytes = round(self.offload_gib * GIB)
        if self.offload_folder is None:
            return OffloadPlan(host_bytes)
        folder = self.offload_folder / f"baton-{self.worker_id}"
        return OffloadPlan(host_bytes, folder, round(self.offload_folder_gib * GIB))

    @property
    def reached_by(self) -> str:
        """The host that gateways are told. Raises BadSettings if there is none."""
        if self.advertise:
            return self.advertise
        if self.host in WILDCARDS:
            raise BadSettings(
                f"--host {self.host or repr('')} is no address to be reached by: "
                "name one with --advertise"
            )
        return self.host


Settings = TypeVar("Settings", bound=BaseSettings)
OfWorker = TypeVar("OfWorker", bound=WorkerSettings)


def load(kind: type[OfWorker], program: str, arguments: Sequence[str]) -> OfWorker:
    """Raises BadSettings; exits after --help."""
    settings = parse(kind, program, arguments)
    check_fault(settings, os.environ)
    return settings


def parse(kind: type[Settings], program: str, arguments: Sequence[str]) -> Settings:
    """Raises BadSettings with every bad key as its user wrote it; exits after --help."""
    try:
        source: CliSettingsSource[Settings] = CliSettingsSource(
            kind, cli_prog_name=program, cli_exit_on_error=False
        )
        settings = CliApp.run(kind, cli_args=list(arguments), cli_settings_source=source)
    except SettingsError as error:
        problem = str(error).removeprefix("error parsing CLI: ")
        raise BadSettings(f"{problem} (see {program} --help)") from error
    except ValidationError as error:
        problems = "; ".join(describe(each, arguments, os.environ) for each in error.errors())
        raise BadSettings(f"{problems} (see {program} --help)") from error
    return settings


def check_fault(settings: WorkerSettings, environment: Mapping[str, str]) -> None:
    """Raises BadSettings: with a fault, answers may be wrong."""
    if settings.kv_fault != "none" and environment.get(TESTING) != "1":
        raise BadSettings(
            f"--kv-fault {settings.kv_fault} spoils KV, for tests: {TESTING}=1 must be set as well"
        )


def describe(
    problem: ErrorDetails, arguments: Sequence[str], environment: Mapping[str, str]
) -> str:
    key = str(problem["loc"][0])
    flag, variable = f"--{key.replace('_', '-')}", f"{ENV_PREFIX}{key.upper()}"
    if problem["type"] == "missing":
        return f"{flag} is required{REMEDIES.get(key, '')}"
    is_flag = any(word == flag or word.startswith(f"{flag}=") for word in arguments)
    name = variable if variable in environment and not is_flag else flag
    reason = problem["msg"].removeprefix("Value error, ")
    return f"{name} {str(problem['input'])!r}: {reason[0].lower()}{reason[1:]}"
