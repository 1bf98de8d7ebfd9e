"""What a gateway process ends with."""

from __future__ import annotations

import sys
from collections.abc import Callable

from fleet.errors import FleetError
from gateway.errors import GatewayError


def exit_code(work: Callable[[], int]) -> int:
    """Of `work`, or of the error that it ends with, which is written to stderr."""
    try:
        return work()
    except (GatewayError, FleetError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0
