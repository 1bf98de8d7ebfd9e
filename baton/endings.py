"""How a process ended, for people."""

from __future__ import annotations

import signal

from baton.child import Child


def cause_of_failure(child: Child, exit_code: int) -> str:
    """Why it never was ready: in its own words if it left any that are meant for people."""
    if said := child.said_error():
        return said
    words = child.last_words()
    cause = f"{child.spec.name} {ended(exit_code)} before all were ready"
    return f"{cause}: {words}" if words else cause


def ended(exit_code: int) -> str:
    """`exit_code` as subprocess gives it: -n for signal n."""
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    try:
        return f"was ended by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"was ended by signal {-exit_code}"
