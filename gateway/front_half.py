"""vLLM's front half over our fleet: the one file of the gateway that imports vLLM.

The HTTP routers, chat templates, tokenizer, detokenizer and parsers are vLLM's own. Where
its engine core was, under AsyncLLM, stands a FleetCore. No engine is started.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NoReturn

import msgspec
from fastapi import FastAPI
from vllm import AsyncEngineArgs
from vllm import __version__ as VLLM_VERSION
from vllm.config import VllmConfig
from vllm.entrypoints.launchers.api_server.app_state import init_app_state
from vllm.entrypoints.launchers.app import build_app
from vllm.entrypoints.launchers.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.envs import enable_envs_cache
from vllm.exceptions import GenerationError, GracefulHTTPError
from vllm.utils.argparse_utils import FlexibleArgumentParser
from vllm.v1.engine import EngineCoreOutputs, EngineCoreRequest
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.core_client import EngineCoreClient
from vllm.v1.executor import Executor
from vllm.v1.serial_utils import MsgpackDecoder, MsgpackEncoder

from gateway.codec import StepOutputs
from gateway.errors import (
    GatewayError,
    NoDecodeWorker,
    RequestError,
    StartError,
    TooManyRequests,
)
from gateway.exchange import current_exchange
from gateway.fleet_client import MAX_OPEN_REQUESTS, FleetClient
from gateway.front_half_blocks import BlockNamer
from gateway.request import Request
from gateway.request_life import Outcome
from proto.prompt_digest import prompt_digest

TASKS = ("generate",)
# Building takes seconds. In between, what others wait for is read, before it looks overdue.
TURN_SECONDS = 0.02
DEFAULTS = (
    "--enable-auto-tool-choice",
    "--tool-call-parser=hermes",
    "--disable-uvicorn-access-log",
    "--disable-fastapi-docs",
)
# Ours take their place: every answer is counted at the door, and no engine is scaled here.
DROPPED_MIDDLEWARE = frozenset({"PrometheusInstrumentatorMiddleware", "ScalingMiddleware"})

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FrontHalfOptions:
    """`engine_args` are flags of `vllm serve`; they override ours."""

    model: str
    served_model_names: tuple[str, ...]
    max_model_len: int
    dtype: str = "auto"
    engine_args: str = ""


class RequestFailure(GracefulHTTPError, GenerationError):  # type: ignore[misc]
    """A RequestError as vLLM's serving classes let it through, streaming or not."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(str(error), error.status)
        self.status_code = error.status
        self.error = error


class OutputsDecoder:
    """vLLM's own encoding of EngineCoreOutputs."""

    def __init__(self) -> None:
        self._decoder = MsgpackDecoder(EngineCoreOutputs)

    def __call__(self, frames: Sequence[bytes]) -> StepOutputs:
        """Raises ValueError for frames that are not outputs."""
        try:
            # Tensors are made in place and must be writable.
            step: StepOutputs = self._decoder.decode([bytearray(frame) for frame in frames])
        except (msgspec.MsgspecError, LookupError, TypeError, NotImplementedError) as error:
            raise ValueError(f"not engine core outputs: {type(error).__name__}") from error
        return step


class FleetCore:
    """Stands in for vLLM's EngineCoreClient under AsyncLLM."""

    def __init__(self, fleet: FleetClient, longest: int) -> None:
        """`longest`: most tokens of prompt and answer together."""
        self._longest = longest
        self._namer = BlockNamer()
        self.engine_ranks_managed = [0]
        self.resources = SimpleNamespace(engine_dead=False)
        self.fleet = fleet
        self._encoder = MsgpackEncoder()

    async def get_supported_tasks_async(self) -> tuple[str, ...]:
        return TASKS

    async def add_request_async(self, request: EngineCoreRequest) -> None:
        """Never raises: vLLM has registered the request by now and would not forget it."""
        frames = tuple(bytes(frame) for frame in self._encoder.encode(request))
        exchange = current_exchange.get()
        handed = can_hand_off(request)
        num_tokens = len(request.prompt_token_ids or ())
        wait_seconds = exchange.wait_seconds if exchange else None
        self.fleet.submit(
            Request(
                request.request_id,
                num_tokens,
                handed,
                frames,
                prompt_digest(request) if handed else b"",
                exchange,
                limit_of(request, self._longest - num_tokens),
                self._namer.keys(request, self.fleet.block_sizes()),
                (exchange.session if exchange else "") or request.session_id or "",
                request.lora_request.lora_name if request.lora_request else "",
                request.priority,
                self.fleet.now() + wait_seconds if wait_seconds else None,
            )
        )

    async def get_output_async(self) -> StepOutputs:
        return await self.fleet.next_step()

    async def abort_requests_async(self, request_ids: Iterable[str]) -> None:
        """The front half has all it wants: a stop string was found."""
        self.fleet.abort(request_ids, Outcome.FINISHED)

    async def reset_mm_cache_async(self) -> None:
        """The workers keep their own."""

    def shutdown(self, timeout: float | None = None) -> None:
        self.resources.engine_dead = True


def can_hand_off(request: EngineCoreRequest) -> bool:
    """Whether KV computed elsewhere would serve this request."""
    params = request.sampling_params
    return (
        params is not None
        and request.pooling_params is None
        and request.prompt_embeds is None
        and params.prompt_logprobs is None
        and params.prompt_logprob_token_ids is None
        and not request.resumable
        and len(request.prompt_token_ids or ()) > 1
    )


def limit_of(request: EngineCoreRequest, longest: int) -> int | None:
    """What its client set; None if it may be as long as the model lets it."""
    limit = request.sampling_params.max_tokens if request.sampling_params else None
    return limit if limit is not None and limit < longest else None


class FleetLLM(AsyncLLM):  # type: ignore[misc]
    """AsyncLLM whose requests may be refused, failed and abandoned one by one."""

    engine_core: FleetCore
    has_decode_worker: Callable[[], bool]
    on_refusal: Callable[[], None]

    def check_admission(self, n: int = 1, request_id: str | None = None) -> None:
        super().check_admission(n, request_id)
        if not self.has_decode_worker():
            self._refuse(NoDecodeWorker())
        if not self.engine_core.fleet.has_room(n):
            self._refuse(TooManyRequests(MAX_OPEN_REQUESTS))

    def _refuse(self, error: RequestError) -> NoReturn:
        self.on_refusal()
        if exchange := current_exchange.get():
            exchange.fail(error)
        raise RequestFailure(error)

    async def abort(self, request_id: str | Iterable[str], internal: bool = False) -> None:
        """The client is gone."""
        request_ids = (request_id,) if isinstance(request_id, str) else tuple(request_id)
        self.engine_core.fleet.abort(self.output_processor.abort_requests(request_ids, internal))

    def fail(self, request_id: str, error: RequestError) -> None:
        """Ends a request, and with it its siblings; whoever waits for it gets the error."""
        state = self.output_processor.request_states.get(request_id)
        if state is None:
            return
        if state.queue is not None:
            state.queue.put(RequestFailure(error))
        whole = state.parent_req.request_id if state.parent_req else request_id
        self.engine_core.fleet.abort(self.output_processor.abort_requests((whole,), True))


@dataclass(frozen=True, slots=True)
class FrontHalf:
    """`app` serves HTTP while `watch` does not raise."""

    llm: FleetLLM
    app: FastAPI

    async def watch(self) -> NoReturn:
        """Raises GatewayError when the outputs are not taken in any more."""
        await asyncio.wait((self.llm.output_handler,))
        raise GatewayError("the front half stopped taking outputs in")

    async def model_cards(self) -> list[dict[str, Any]]:
        """As `/v1/models` lists them."""
        models = await self.app.state.openai_serving_models.show_available_models()
        return [card.model_dump() for card in models.data]

    def close(self) -> None:
        self.llm.shutdown(timeout=0)


async def open_front_half(
    options: FrontHalfOptions,
    fleet: FleetClient,
    has_decode_worker: Callable[[], bool],
    on_refusal: Callable[[], None],
) -> FrontHalf:
    """Raises StartError for options and models that vLLM refuses."""
    args = parse_args(options)
    config = make_config(args)
    await asyncio.sleep(TURN_SECONDS)
    with fleet_for_engine(FleetCore(fleet, options.max_model_len)):
        llm = FleetLLM(config, Executor, log_stats=True, log_requests=False)
    await asyncio.sleep(TURN_SECONDS)
    llm.has_decode_worker, llm.on_refusal = has_decode_worker, on_refusal
    fleet.on_failure = llm.fail
    app = build_app(args, TASKS, config.model_config)
    drop_middleware(app)
    await asyncio.sleep(TURN_SECONDS)
    await init_app_state(llm, app.state, args, TASKS)
    # Its log line tells of one engine's cache and queue; there is none here.
    app.state.log_stats = False
    # One is asked for with every token.
    enable_envs_cache()
    return FrontHalf(llm, app)


def drop_middleware(app: FastAPI) -> None:
    """Takes DROPPED_MIDDLEWARE away; the stack is built anew at the first request."""
    app.user_middleware = [
        middleware
        for middleware in app.user_middleware
        if getattr(middleware.cls, "__name__", "") not in DROPPED_MIDDLEWARE
    ]
    app.middleware_stack = None


def parse_args(options: FrontHalfOptions) -> argparse.Namespace:
    """vLLM's own parser over our defaults and the user's flags, which come last."""
    words = [
        *DEFAULTS,
        f"--model={options.model}",
        f"--dtype={options.dtype}",
        f"--max-model-len={options.max_model_len}",
        *shlex.split(options.engine_args),
        "--served-model-name",
        *options.served_model_names,
    ]
    with start_errors("--engine-args"):
        args: argparse.Namespace = make_arg_parser(Parser()).parse_args(words)
        validate_parsed_serve_args(args)
    return args


def make_config(args: argparse.Namespace) -> VllmConfig:
    """What the front half reads of it, made without looking for a device."""
    engine_args = AsyncEngineArgs.from_cli_args(args)
    with start_errors(f"model {args.model}"):
        config = VllmConfig(
            model_config=engine_args.create_model_config(),
            logging_config=engine_args.create_logging_config(),
            structured_outputs_config=engine_args.create_structured_outputs_config(),
        )
    config.scheduler_config.stream_interval = engine_args.stream_interval
    return config


@contextmanager
def fleet_for_engine(core: FleetCore) -> Iterator[None]:
    """Inside, whoever asks vLLM for an engine core client gets `core`."""
    original = EngineCoreClient.__dict__["make_async_mp_client"]
    EngineCoreClient.make_async_mp_client = staticmethod(lambda **_: core)
    try:
        yield
    finally:
        EngineCoreClient.make_async_mp_client = original


@contextmanager
def start_errors(what: str) -> Iterator[None]:
    """Turns what vLLM raises over bad settings into one line."""
    try:
        yield
    except (ValueError, TypeError, KeyError, OSError, NotImplementedError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise StartError(f"{what}: {' '.join(lines[:3])}") from error


class Parser(FlexibleArgumentParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


__all__ = [
    "VLLM_VERSION",
    "FrontHalf",
    "FrontHalfOptions",
    "OutputsDecoder",
    "open_front_half",
]
