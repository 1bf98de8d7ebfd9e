"""Every setting of the gateway, its default and its meaning."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, CliApp, SettingsConfigDict, SettingsError

from fleet.errors import BadFleetUrl
from fleet.member import NAME
from fleet.url import check_url
from gateway.errors import StartError
from gateway.request_life import Dispatch
from gateway.routing.decider import Mode
from gateway.routing.policy import read_policy
from gateway.routing.way import Slo
from gateway.timeouts import Timeouts


def check_words(words: str) -> str:
    """Raises ValueError if a shell could not split it into arguments."""
    shlex.split(words)
    return words


def check_redis(url: str) -> str:
    try:
        return check_url(url)
    except BadFleetUrl as error:
        raise ValueError(str(error)) from error


def check_fleet(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("use 1 to 128 letters, digits, dots, dashes and underscores")
    return name


def check_routing(name: str) -> str:
    try:
        read_policy(name)
    except StartError as error:
        raise ValueError(str(error).removeprefix("--routing ")) from error
    return name


HOW_TO_MAKE_A_KEY = "`baton key > FILE` makes one for the whole fleet"

HELP = """\
The OpenAI and Anthropic surface of a fleet of prefill and decode workers.

It waits for the workers that it is told to expect, checks that they fit together, and
then serves /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, /v1/models,
/tokenize, /detokenize, /health, /metrics, and of the fleet /fleet/workers, /fleet/explain,
/fleet/decision and /fleet/index.

  python -m gateway --model ./SmolLM2-135M-Instruct --served-model-name smol \\
      --redis redis://127.0.0.1:6379 --fleet-key-file fleet.key --expect-decode 2

Each flag can also be given by the environment: --first-token-seconds as
BATON_FIRST_TOKEN_SECONDS. A flag goes before the environment.
"""


class Settings(BaseSettings):
    __doc__ = HELP

    model_config = SettingsConfigDict(
        allow_inf_nan=False,
        env_prefix="BATON_",
        cli_prog_name="python -m gateway",
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_exit_on_error=False,
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )

    model: str = Field(
        min_length=1, description="folder or hub id; only its config and tokenizer are read"
    )
    served_model_name: str = Field(
        "", description="the model's name for clients, or several by commas; empty: the folder's"
    )
    redis: Annotated[str, AfterValidator(check_redis)] = Field(
        "redis://127.0.0.1:6379/0", description="fleet state: redis://, rediss:// or unix://"
    )
    fleet_key_file: Path = Field(
        description="the fleet's key, which signs tickets: `baton key > FILE` makes one"
    )
    fleet: Annotated[str, AfterValidator(check_fleet)] = Field(
        "baton", description="the fleet's name"
    )
    host: str = Field("127.0.0.1", min_length=1, description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    processes: int = Field(
        1, ge=1, le=64, description="processes that share the port; more make use of more cores"
    )
    expect_prefill: int = Field(1, ge=0, description="prefill workers to wait for")
    expect_decode: int = Field(1, ge=1, description="decode workers to wait for")
    expect_seconds: float = Field(300, gt=0, description="give up waiting for them after so long")
    max_model_len: int | None = Field(
        None, ge=1, description="most tokens of prompt and answer; null: what every worker takes"
    )
    dtype: str = Field("auto", description="number format of the weights, as vLLM names it")
    engine_args: Annotated[str, AfterValidator(check_words)] = Field(
        "", description='more flags of vLLM, e.g. "--reasoning-parser qwen3"'
    )
    max_body_mib: int = Field(8, ge=1, le=1024, description="largest request body, in MiB")
    dispatch: Dispatch = Field(
        Dispatch.TOGETHER, description="when decode starts: together with prefill, or after it"
    )
    routing: Annotated[str, AfterValidator(check_routing)] = Field(
        "default",
        description="how workers are chosen: default, round-robin, least-loaded, prefix, "
        "or a .yaml file",
    )
    disaggregation: Mode = Field(
        Mode.AUTO,
        description="who computes prompts: a prefill worker always, or never, or (auto) for "
        "each size of prompt the way that is better by the goals as measured, and the other one "
        "where that costs much less now",
    )
    ttft_goal_seconds: float = Field(2, gt=0, description="goal for the time to the first token")
    itl_goal_seconds: float = Field(0.2, gt=0, description="goal for the time between tokens")
    control_share: float = Field(
        0.02,
        ge=0,
        le=0.5,
        description="of the requests that could go either way, how many take the other one, so "
        "that the gain stays known; fewer where that costs much; 0: none",
    )
    # Together no more than a ticket may be valid for.
    connect_seconds: float = Field(
        5, gt=0, le=600, description="time for a worker to answer a connection"
    )
    prefill_seconds: float = Field(
        120, gt=0, le=3000, description="time for a prefill; later, the decode worker does it"
    )
    first_token_seconds: float = Field(300, gt=0, description="time for the first token")
    between_tokens_seconds: float = Field(60, gt=0, description="time from token to token")
    shutdown_seconds: float = Field(
        3, ge=0, description="time for open requests to end after SIGTERM"
    )

    @property
    def timeouts(self) -> Timeouts:
        return Timeouts(
            self.connect_seconds,
            self.prefill_seconds,
            self.first_token_seconds,
            self.between_tokens_seconds,
        )

    @property
    def slo(self) -> Slo:
        return Slo(self.ttft_goal_seconds, self.itl_goal_seconds)

    @property
    def served_model_names(self) -> tuple[str, ...]:
        names = tuple(name.strip() for name in self.served_model_name.split(",") if name.strip())
        return names or (Path(self.model).name,)


def read_settings(words: list[str]) -> Settings:
    """From flags, environment and defaults. Raises StartError naming the first bad key."""
    try:
        return CliApp.run(Settings, cli_args=joined(words, "--engine-args"))
    except ValidationError as error:
        first = error.errors()[0]
        flag = "--" + "-".join(str(part) for part in first["loc"]).replace("_", "-")
        if first["type"] == "missing" and flag == "--fleet-key-file":
            raise StartError(f"{flag} is required: {HOW_TO_MAKE_A_KEY}") from error
        raise StartError(f"{flag}: {first['msg'].removeprefix('Value error, ')}") from error
    except SettingsError as error:
        raise StartError(str(error).removeprefix("error parsing CLI: ")) from error


def joined(words: list[str], flag: str) -> list[str]:
    """`flag value` as `flag=value`: argparse would take a value like --x for a flag."""
    result: list[str] = []
    for word in words:
        if result and result[-1] == flag:
            result[-1] = f"{flag}={word}"
        else:
            result.append(word)
    return result
