"""Whether a worker with nothing to do takes over what waits for another."""

from __future__ import annotations

from dataclasses import replace

from gateway.routing.decider import Mode, Verdict
from gateway.routing.fleet_table import FleetTable
from gateway.routing.lanes import Waiting
from gateway.routing.router import Router
from gateway.routing.way import Way

# A worker without work takes over what costs it more than its own worker by less than this share
# of the time that is saved.
SPILL_SHARE = 0.2


def taken_over(item: Waiting, row: int, router: Router, now: float) -> Waiting | None:
    """As computed by this worker, if that ends sooner and harms nobody. See `may_go`."""
    columns = router.table.columns
    way = way_of(router.table, row)
    if not router.accepts(row, item.query, way, now):
        return None
    # Nothing is forecast of this, so nothing is learned from it about either way.
    plan = router.plan_on(row, item.query, Verdict(way), now)
    if plan.seconds >= SPILL_SHARE * seconds_to_wait(item, router, now) + item.seconds:
        return None
    if way is Way.LOCAL and columns.num_legs[row]:
        step_seconds = router.table.step_seconds(columns.num_legs + 1)
        piece = min(plan.num_tokens, router.table.piece_tokens(step_seconds)[row])
        if piece * columns.stall_seconds[row] > router.decider.slo.itl_seconds:
            return None
    return replace(item, seconds=plan.seconds, num_tokens=plan.num_tokens, verdict=plan.verdict)


def way_of(table: FleetTable, row: int) -> Way:
    """How a prompt goes that this worker computes for another."""
    return Way.REMOTE if table.columns.can_prefill[row] else Way.LOCAL


def may_go(item: Waiting, way: Way, mode: Mode) -> bool:
    """This way, as far as its prompt and the mode let it."""
    if item.is_pinned:
        return False
    if way is Way.REMOTE:
        return item.query.can_hand_off and mode is not Mode.NEVER
    return mode is not Mode.ALWAYS or item.verdict.way is Way.LOCAL


def seconds_to_wait(item: Waiting, router: Router, now: float) -> float:
    """Until its own worker has computed what it was handed; without end while there is no room."""
    row = router.table.rows.get(item.worker)
    if row is None:
        return 0.0
    if item.verdict.way is Way.LOCAL and not router.has_credit(row, item.query):
        return float("inf")
    return max(0.0, float(router.table.columns.busy_until[row]) - now)
