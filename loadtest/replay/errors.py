"""What can keep a replay from running; each text is one line for people.

ReplayError
├── BadInput        a trace, an option or a file that cannot be used
└── FleetFailed     the fleet did not start, or answers what cannot be measured
"""

from __future__ import annotations


class ReplayError(Exception):
    pass


class BadInput(ReplayError):
    pass


class FleetFailed(ReplayError):
    pass
