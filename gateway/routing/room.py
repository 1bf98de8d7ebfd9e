"""Whether a worker can start a prompt now."""

from __future__ import annotations

from gateway.routing.fleet_table import FleetTable

# A worker gets its next prompt so long before it has computed the last one.
AHEAD_SECONDS = 0.03
# Prompts that one step can compute go beside a long one, up to so many.
MAX_BESIDE = 4


def has_room(table: FleetTable, row: int, num_tokens: int, now: float) -> bool:
    """For a prompt of which so much is not cached."""
    columns = table.columns
    if not columns.num_prefills[row] or columns.busy_until[row] - now <= AHEAD_SECONDS:
        return True
    step_tokens, short_tokens = columns.step_tokens[row], columns.short_tokens[row]
    if num_tokens > step_tokens:
        # One at a time, beside short ones.
        return bool(not columns.num_long[row] and short_tokens <= step_tokens)
    num_short = columns.num_prefills[row] - columns.num_long[row]
    return bool(short_tokens + num_tokens <= step_tokens or num_short < MAX_BESIDE)
