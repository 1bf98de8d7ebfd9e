"""The network between the simulated workers of one process."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from kvtransfer.causes import Cause
from worker.sim.digest import without
from worker.sim.port import Port
from worker.sim.request import Request
from worker.sim.timeline import Timeline

MAX_SPENT = 16384


class Station(Protocol):
    """A worker's end of it. Each is told once how a hand-off of its request has ended."""

    address: bytes
    port: Port

    def sent(self, request: Request, exposed_seconds: float) -> None:
        """All that was asked for is at the other end."""

    def send_failed(self, request: Request, cause: Cause) -> None: ...

    def loaded(self, request: Request, seconds: float) -> None:
        """The KV is in the request's blocks."""

    def load_failed(self, request: Request, cause: Cause) -> None: ...


@dataclass(slots=True)
class Send:
    """`num_booked` blocks are on their way. A new `round` begins when blocks were lost."""

    station: Station
    request: Request
    prefilled_at: float | None = None
    num_booked: int = 0
    num_landed: int = 0
    round: int = 0


@dataclass(slots=True)
class Load:
    """The blocks from `first` to before `end`, with `num_tokens` tokens from the prompt's start."""

    station: Station
    request: Request
    first: int
    end: int
    num_tokens: int
    opened_at: float
    num_landed: int = 0


class SimFabric:
    """Moves the blocks of a ticket from the request that computes them to the one that lacks
    them, as soon as both are there and each block is full.

    Ports are busy with one block's bytes at a time. What moves while the next layers are being
    computed costs nothing. Blocks are read when they arrive, and written if they are
    still waited for: whoever gives a block away too early makes wrong tokens.
    """

    def __init__(
        self, timeline: Timeline, bytes_per_token: int, num_layers: int, latency_seconds: float
    ) -> None:
        self._timeline = timeline
        self._bytes_per_token = bytes_per_token
        self._num_layers = num_layers
        self._latency_seconds = latency_seconds
        self._stations: dict[bytes, Station] = {}
        self._sends: dict[bytes, Send] = {}
        self._loads: dict[bytes, Load] = {}
        self._spent: OrderedDict[bytes, Cause] = OrderedDict()

    def join(self, station: Station) -> None:
        self._stations[station.address] = station

    def offer(self, ticket: bytes, station: Station, request: Request) -> None:
        """This request computes the ticket's KV, and keeps it until told that it was sent."""
        cause = self._spent.get(ticket)
        if cause is None:
            self._sends[ticket] = Send(station, request)
        elif cause is Cause.USED:
            station.sent(request, 0.0)
        else:
            station.send_failed(request, cause)

    def demand(self, ticket: bytes, station: Station, request: Request) -> None:
        """This request has blocks, and lacks the KV of all but its last token in the later ones."""
        size = request.context.pool.block_size
        num_tokens = request.num_prompt - 1
        first, end = request.context.num_tokens // size, -(-num_tokens // size)
        is_open = ticket in self._spent or ticket in self._loads
        if is_open or request.task.source not in self._stations:
            cause = self._spent.get(ticket, Cause.USED) if is_open else Cause.NO_ROUTE
            self._timeline.call_soon(partial(station.load_failed, request, cause))
            return
        now = self._timeline.now
        self._loads[ticket] = Load(station, request, first, end, num_tokens, now)
        self._pump(ticket, None)

    def decline(self, ticket: bytes) -> None:
        """Nothing of it is lacking."""
        self._spend(ticket, Cause.USED)
        if send := self._sends.pop(ticket, None):
            send.station.sent(send.request, 0.0)

    def computed(self, ticket: bytes, began: float) -> None:
        """The source has computed more of it, from `began` until now."""
        self._pump(ticket, began)

    def lost_blocks(self, ticket: bytes) -> None:
        """The source begins again."""
        if send := self._sends.get(ticket):
            send.round += 1
            send.num_booked = send.num_landed

    def end(self, ticket: bytes, cause: Cause) -> bool:
        """It will not be used (any more). False if it was not open."""
        send, load = self._sends.pop(ticket, None), self._loads.pop(ticket, None)
        self._spend(ticket, cause)
        if load:
            load.station.load_failed(load.request, cause)
        if send:
            send.station.send_failed(send.request, cause)
        return bool(send or load)

    def end_between(self, source: bytes, station: Station) -> None:
        """That station's loads from there will not come."""
        for ticket, load in list(self._loads.items()):
            if load.station is station and load.request.task.source == source:
                self.end(ticket, Cause.LINK_LOST)

    def _pump(self, ticket: bytes, began: float | None) -> None:
        """Sends what is there. `began`: when its computation did, if that has just ended."""
        send, load = self._sends.get(ticket), self._loads.get(ticket)
        if not send or not load:
            return
        request = send.request
        if request.num_outputs:
            send.prefilled_at = send.prefilled_at or self._timeline.now
            end = load.end
        else:
            end = min(load.end, request.context.num_tokens // request.context.pool.block_size)
        first = max(load.first, send.num_booked)
        if first >= end:
            return
        send.num_booked = end
        num_bytes = self._bytes(load, first, end)
        if began is not None:
            began = max(began + (self._timeline.now - began) / self._num_layers, load.opened_at)
        arrival = self._arrival(send.station.port, load.station.port, num_bytes, began)
        land = partial(self._land, ticket, send, load, first, end, send.round)
        self._timeline.call_at(arrival, land)

    def _bytes(self, load: Load, first: int, end: int) -> int:
        size = load.request.context.pool.block_size
        return (min(end * size, load.num_tokens) - first * size) * self._bytes_per_token

    def _arrival(self, source: Port, target: Port, num_bytes: int, since: float | None) -> float:
        """When the last byte is there. `since`: when the first layer was there to be sent."""
        now = self._timeline.now
        seconds = num_bytes / min(source.bandwidth, target.bandwidth)
        free_at = max(source.out_free_at, target.in_free_at)
        if since is not None:
            hidden = max(0.0, now - max(since, free_at))
            seconds -= min(hidden, seconds * (1 - 1 / self._num_layers))
        source.out_free_at = target.in_free_at = max(now, free_at) + seconds
        return source.out_free_at + self._latency_seconds

    def _land(
        self, ticket: bytes, send: Send, load: Load, first: int, end: int, round_: int
    ) -> None:
        is_open = self._sends.get(ticket) is send and self._loads.get(ticket) is load
        if not is_open or send.round != round_:
            load.station.port.num_late += 1
            return
        for index in range(first, end):
            self._copy(send.request, load, index)
        send.num_landed = end
        load.num_landed = end - load.first
        num_bytes = self._bytes(load, first, end)
        send.station.port.count_out(num_bytes)
        load.station.port.count_in(num_bytes)
        if end == load.end:
            self._complete(ticket, send, load)

    def _copy(self, source: Request, load: Load, index: int) -> None:
        """One block, without the tokens that were not asked for."""
        pool, target = source.context.pool, load.request.context
        before, after = pool.contents[source.context.blocks[index]]
        num_there = min(source.context.num_tokens, (index + 1) * pool.block_size)
        excess = source.tokens[load.num_tokens : num_there]
        target.pool.write(target.blocks[index], (before, without(after, reversed(excess))))

    def _complete(self, ticket: bytes, send: Send, load: Load) -> None:
        now = self._timeline.now
        del self._sends[ticket], self._loads[ticket]
        self._spend(ticket, Cause.USED)
        load.request.context.num_tokens = load.num_tokens
        exposed = now - send.prefilled_at if send.prefilled_at is not None else 0.0
        send.station.sent(send.request, exposed)
        load.station.loaded(load.request, now - load.opened_at)

    def _spend(self, ticket: bytes, cause: Cause) -> None:
        self._spent.setdefault(ticket, cause)
        while len(self._spent) > MAX_SPENT:
            self._spent.popitem(last=False)

    def check_integrity(self) -> None:
        """Raises AssertionError."""
        assert not self._spent.keys() & (self._sends.keys() | self._loads.keys()), self
        for load in self._loads.values():
            assert 0 <= load.num_landed < load.end - load.first, self
            assert len(load.request.context.blocks) >= load.end, self

    def __repr__(self) -> str:
        return f"<SimFabric: {len(self._sends)} sends, {len(self._loads)} loads open>"
