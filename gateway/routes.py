"""What is served under which path, and how everything else is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from gateway.error_shape import Dialect, ErrorObject


@dataclass(frozen=True, slots=True)
class Route:
    """`label` names it in metrics. `page` None: the front half serves it."""

    label: str
    dialect: Dialect = Dialect.OPENAI
    page: str | None = None
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`allow`: the methods that the path has."""

    error: ErrorObject
    dialect: Dialect = Dialect.OPENAI
    allow: tuple[str, ...] = ()


FRONT: Mapping[str, tuple[str, Dialect]] = MappingProxyType(
    {
        "/v1/chat/completions": ("POST", Dialect.OPENAI),
        "/v1/completions": ("POST", Dialect.OPENAI),
        "/v1/responses": ("POST", Dialect.RESPONSES),
        "/v1/messages": ("POST", Dialect.ANTHROPIC),
        "/v1/messages/count_tokens": ("POST", Dialect.ANTHROPIC),
        "/v1/models": ("GET", Dialect.OPENAI),
        "/tokenize": ("POST", Dialect.OPENAI),
        "/detokenize": ("POST", Dialect.OPENAI),
        "/version": ("GET", Dialect.OPENAI),
    }
)
PAGES = (
    "/health",
    "/metrics",
    "/fleet/workers",
    "/fleet/explain",
    "/fleet/decision",
    "/fleet/index",
)
MODEL = "/v1/models/"

# The first that the path starts with; what an SDK or an operator of vLLM may call.
UNSUPPORTED: Mapping[str, str] = MappingProxyType(
    {
        "/v1/chat/completions/": "stored, batched and rendered chat completions",
        "/v1/completions/": "rendered completions",
        "/v1/responses/": "stored and background responses",
        "/v1/messages/": "message batches",
        "/v1/complete/": "text completions in Anthropic's form",
        "/v1/embeddings": "embeddings",
        "/v2/embed": "embeddings",
        "/pooling": "pooling",
        "/classify": "classification",
        "/score": "scoring",
        "/v1/score": "scoring",
        "/rerank": "reranking",
        "/v1/rerank": "reranking",
        "/v2/rerank": "reranking",
        "/generative_scoring": "scoring",
        "/v1/audio": "audio",
        "/v1/images": "image generation",
        "/v1/videos": "video generation",
        "/v1/moderations": "moderation",
        "/v1/realtime": "realtime sessions",
        "/v1/files": "files",
        "/v1/uploads": "uploads",
        "/v1/batches": "batches",
        "/v1/fine_tuning": "fine-tuning",
        "/v1/evals": "evals",
        "/v1/vector_stores": "vector stores",
        "/v1/assistants": "assistants",
        "/v1/threads": "threads",
        "/v1/containers": "containers",
        "/v1/conversations": "conversations",
        "/v1/organization": "organizations",
        "/v1/load_lora_adapter": "loading LoRA adapters",
        "/v1/unload_lora_adapter": "unloading LoRA adapters",
        "/inference/": "token-level inference",
        "/invocations": "SageMaker invocations",
        "/sleep": "sleeping",
        "/wake_up": "waking up",
        "/is_sleeping": "sleeping",
        "/reset_": "resetting caches",
        "/scale_elastic_ep": "elastic scaling",
        "/is_scaling_elastic_ep": "elastic scaling",
        "/collective_rpc": "remote calls",
        "/start_profile": "profiling",
        "/stop_profile": "profiling",
    }
)
ANTHROPIC_PREFIXES = ("/v1/messages/", "/v1/complete/")


def find(method: str, path: str) -> Route | Refusal:
    """Where a request goes. A trailing slash does not matter; HEAD is GET without a body."""
    path = path.rstrip("/") or "/"
    method = "GET" if method == "HEAD" else method
    if found := FRONT.get(path):
        allowed, dialect = found
        # The front half answers a browser's preflight.
        is_served = method in (allowed, "OPTIONS")
        return Route(path, dialect) if is_served else _wrong_method(allowed, dialect)
    if path in PAGES:
        return Route(path, page=path) if method == "GET" else _wrong_method("GET")
    if path.startswith(MODEL):
        if method != "GET":
            return _wrong_method("GET")
        return Route(MODEL, page=MODEL, argument=path.removeprefix(MODEL))
    return _refuse(path)


def _wrong_method(allowed: str, dialect: Dialect = Dialect.OPENAI) -> Refusal:
    message = f"This path takes {allowed} only."
    return Refusal(ErrorObject(405, message, code="method_not_allowed"), dialect, (allowed,))


def _refuse(path: str) -> Refusal:
    path = f"{path}/"
    dialect = Dialect.ANTHROPIC if path.startswith(ANTHROPIC_PREFIXES) else Dialect.OPENAI
    for prefix, what in UNSUPPORTED.items():
        if path.startswith(prefix):
            message = f"Not offered by this gateway: {what}."
            return Refusal(ErrorObject(404, message, code="unsupported_endpoint"), dialect)
    return Refusal(ErrorObject(404, "There is no such path.", code="unknown_endpoint"), dialect)
