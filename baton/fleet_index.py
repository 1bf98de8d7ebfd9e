"""`baton fleet index`: what the gateway knows of the KV blocks that workers hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from baton.console import Console
from baton.figures import UNKNOWN, count, percent, span
from baton.gateway_page import ANSWER_SECONDS, fetch, names_of, read
from baton.status import size
from baton.table import render

# Two rounds of ten seconds at most, and looking through the index.
AUDIT_SECONDS = 60.0
TIERS = ("device", "host", "disk")
AUDIT_HEADING = ("really held", "lacking", "wrong")
NOT_ASKED = (UNKNOWN,) * len(AUDIT_HEADING)
ALL = "all"


@dataclass(frozen=True, slots=True)
class Held:
    """Blocks of one worker, by tier."""

    is_whole: bool = False
    device: int = 0
    host: int = 0
    disk: int = 0


@dataclass(frozen=True, slots=True)
class Audited:
    """`num_held` None: it did not answer. Shares are of what it holds, and of the index."""

    num_held: int | None = None
    num_lacking: int = 0
    num_wrong: int = 0
    share_lacking: float = 0.0
    share_wrong: float = 0.0


@dataclass(frozen=True, slots=True)
class Audit(Audited):
    """Of all that were asked together, and of each."""

    num_workers: int = 0
    num_asked: int = 0
    workers: dict[str, Audited] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Index:
    num_blocks: int
    num_entries: int
    num_bytes: int
    is_current: bool
    num_expected: int = 0
    bytes_per_entry: float | None = None
    lag_seconds: float | None = None
    num_prompt_tokens: int = 0
    hit_rate: float | None = None
    workers: dict[str, Held] = field(default_factory=dict)
    audit: Audit | None = None


def fetch_index(gateway: str, is_audited: bool, console: Console) -> Any:
    """Raises NoAnswer."""
    if not is_audited:
        return fetch(gateway, "/fleet/index")
    console.transient("Asking workers twice what they really hold ...")
    return fetch(gateway, "/fleet/index?audit=1", ANSWER_SECONDS + AUDIT_SECONDS)


def show_index(page: Any, console: Console) -> int:
    """0 if the index is current and whole, else 1. Raises NoAnswer."""
    index = read(page, Index)
    for line in headlines(index):
        console.line(line)
    for line in table(index) if index.workers else ():
        console.line(line)
    return 0 if index.is_current and all(each.is_whole for each in index.workers.values()) else 1


def headlines(index: Index) -> list[str]:
    """Size, hit rate, how far it lags, and how many workers an audit has asked."""
    each = f", {index.bytes_per_entry:.1f} bytes each" if index.bytes_per_entry else ""
    hits = (
        f"{percent(index.hit_rate)} of {count(index.num_prompt_tokens)} prompt tokens were in the "
        "cache that they were sent to"
        if index.hit_rate is not None
        else "No prompt has been sent to a worker yet"
    )
    blocks, entries = count(index.num_blocks), count(index.num_entries)
    expected = f"; {count(index.num_expected)} expected soon" if index.num_expected else ""
    return [
        f"{blocks} blocks in {entries} entries; {size(index.num_bytes)}{each}{expected}",
        hits,
        freshness(index),
        *([extent(index.audit)] if index.audit else ()),
    ]


def freshness(index: Index) -> str:
    if index.lag_seconds is None:
        return "The fleet's state does not answer: the index stays as it was"
    if index.lag_seconds:
        behind = f"{span(index.lag_seconds)} behind the log"
    else:
        behind = "all of the log is read" if index.is_current else "reading what workers hold"
    return f"Current, {behind}" if index.is_current else f"Not current, {behind}"


def extent(audit: Audit) -> str:
    return f"{count(audit.num_asked)} of {count(audit.num_workers)} workers asked"


def table(index: Index) -> list[str]:
    """A row for each worker and one for all; without tiers that hold nothing."""
    sums = {tier: sum(getattr(each, tier) for each in index.workers.values()) for tier in TIERS}
    tiers = [tier for tier in TIERS if sums[tier] or tier == TIERS[0]]
    names, num_whole = names_of(index.workers), 0
    rows = []
    for key, held in index.workers.items():
        num_whole += held.is_whole
        cells = (names[key], *(count(getattr(held, tier)) for tier in tiers), yes_or_no(held))
        rows.append((*cells, *audit_cells(index.audit, key)))
    total = (ALL, *(count(sums[tier]) for tier in tiers), f"{num_whole}/{len(rows)}")
    heading = ("worker", *tiers, "whole", *(AUDIT_HEADING if index.audit else ()))
    return render(heading, [*rows, (*total, *audit_cells(index.audit))])


def yes_or_no(held: Held) -> str:
    return "yes" if held.is_whole else "no"


def audit_cells(audit: Audit | None, worker: str = "") -> tuple[str, ...]:
    """Of one worker, or of all."""
    if audit is None:
        return ()
    audited = audit.workers.get(worker) if worker else audit
    if audited is None:
        return NOT_ASKED
    if audited.num_held is None:
        return ("no answer", UNKNOWN, UNKNOWN)
    return (
        count(audited.num_held),
        f"{count(audited.num_lacking)} ({audited.share_lacking:.2%})",
        f"{count(audited.num_wrong)} ({audited.share_wrong:.2%})",
    )
