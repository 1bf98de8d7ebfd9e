"""What the scheduler's half of the connector tells the workers' halves, once a step."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvtransfer.incoming import LoadOrder


@dataclass(frozen=True, slots=True)
class Computation:
    """In this step a prefill leg's tokens [first_token, end_token) are computed.

    Everything before them is in the cache already; `block_ids` are all of the request's blocks.
    """

    request_id: str
    ticket: bytes
    lease_seconds: float
    block_ids: tuple[int, ...]
    first_token: int
    end_token: int


@dataclass(frozen=True, slots=True)
class Declined:
    """A ticket that will not be used; its source is told. `load`: as in a LoadOrder."""

    ticket: bytes
    load: bytes
    source_addresses: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """A prefill leg that has ended; its blocks are kept until the transfer thread says so."""

    request_id: str
    ticket: bytes
    is_prefilled: bool


@dataclass(slots=True)
class StepOrders:
    """`preempted` and `cancelled_loads` are request ids, `aborted_sends` tickets of requests
    that never had blocks.
    """

    computations: list[Computation] = field(default_factory=list)
    loads: list[LoadOrder] = field(default_factory=list)
    declined: list[Declined] = field(default_factory=list)
    cancelled_loads: list[str] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    aborted_sends: list[bytes] = field(default_factory=list)
    preempted: list[str] = field(default_factory=list)
