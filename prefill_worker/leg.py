"""How a worker runs the prefill leg of a request."""

from __future__ import annotations

from types import MappingProxyType

from worker.leg import Leg, Role

# Compute-bound: what is taken beyond the step under way only waits.
MAX_OPEN_REQUESTS = 1024

PREFILL = Leg(
    role=Role.PREFILL,
    max_open_requests=MAX_OPEN_REQUESTS,
    # One token, the cheapest way. Nothing of the client's is kept: no stop string, no minimum,
    # no logprobs and no grammar has a say in when the prompt's KV is complete.
    sampling=MappingProxyType(
        {"temperature": 0.0, "max_tokens": 1, "ignore_eos": True, "detokenize": False}
    ),
)
