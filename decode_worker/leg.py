"""How a worker runs the decode leg of a request."""

from __future__ import annotations

from worker.leg import Leg, Role

# Memory-bound: beyond the KV cache, legs wait here without holding any.
MAX_OPEN_REQUESTS = 4096

DECODE = Leg(role=Role.DECODE, max_open_requests=MAX_OPEN_REQUESTS)
