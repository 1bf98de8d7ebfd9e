"""One replay from beginning to end: read the fleet, send, read again, count."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from loadtest.endpoint import BadAnswer, Endpoint
from loadtest.replay.clients import replay
from loadtest.replay.errors import BadInput, FleetFailed
from loadtest.replay.figures import Figures
from loadtest.replay.options import Fleet, Options
from loadtest.replay.pooled_cache import pooled_hits
from loadtest.replay.progress_line import ProgressLine
from loadtest.replay.prompt_maker import PromptMaker
from loadtest.replay.result import ReplayResult
from loadtest.replay.sim_fleet import sim_fleet
from loadtest.replay.trace import TraceRequest
from loadtest.replay.worker_work import Rows, WorkerWork, that_compute_prompts, work_between
from loadtest.replay.workload import Workload

BLOCK_TOKENS = 16


def run_on(fleet: Fleet, options: Options, trace: Sequence[TraceRequest]) -> ReplayResult:
    """Raises ReplayError, OSError."""
    with at_fleet(fleet, options) as url:
        endpoint = Endpoint(url)
        try:
            workload = workload_for(endpoint, options, trace)
            before = rows(endpoint)
            line = ProgressLine(len(workload.requests), sys.stderr)
            records = replay(workload, options.num_clients, line.show)
            line.clear()
            work = work_between(before, rows(endpoint))
        except BadAnswer as error:
            raise FleetFailed(str(error)) from error
        except OSError as error:
            raise FleetFailed(f"{url}: {error.strerror or error}") from error
    pool_blocks, block_tokens = pool_size(options, work)
    maker = PromptMaker(workload.vocabulary, workload.seed)
    return ReplayResult(
        name=fleet.name,
        url=url,
        figures=Figures.of(records, options.slo),
        slo=options.slo,
        pooled=pooled_hits(workload.requests, maker, pool_blocks, block_tokens),
        work=work,
        records=records,
    )


@contextmanager
def at_fleet(fleet: Fleet, options: Options) -> Iterator[str]:
    """Its URL."""
    if fleet.url is not None:
        yield fleet.url
        return
    with sim_fleet(fleet.words, options.start_seconds) as url:
        yield url


def workload_for(endpoint: Endpoint, options: Options, trace: Sequence[TraceRequest]) -> Workload:
    """Raises BadInput, BadAnswer, OSError."""
    try:
        card: Mapping[str, object] = endpoint.model_card()
    except (LookupError, TypeError, ValueError) as error:
        raise BadAnswer(f"{endpoint.url}/v1/models names no model") from error
    limit = card.get("max_model_len")
    shape = options.shape
    if shape.max_tokens is None and isinstance(limit, int):
        shape = replace(shape, max_tokens=limit)
    requests = shape.apply(trace)
    if not requests:
        raise BadInput("no request is left to replay")
    return Workload(
        url=endpoint.url,
        model=options.model or str(card["id"]),
        requests=requests,
        vocabulary=options.vocabulary,
        seed=options.seed,
        timeout_seconds=options.timeout_seconds,
        max_open=options.max_open,
        check=options.check,
    )


def rows(endpoint: Endpoint) -> Rows:
    """None from a gateway that is not ours."""
    try:
        return endpoint.workers()
    except (BadAnswer, LookupError, ValueError):
        return ()


def pool_size(options: Options, work: Sequence[WorkerWork]) -> tuple[int | None, int]:
    """In blocks, and the tokens of each."""
    computing = that_compute_prompts(work)
    told = [each.block_tokens for each in computing if each.block_tokens]
    num_blocks = options.pool_blocks or sum(each.num_kv_blocks for each in computing) or None
    return num_blocks, options.block_tokens or (told[0] if told else BLOCK_TOKENS)
