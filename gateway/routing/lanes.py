"""The queue, in which prompts wait for the worker that shall compute them, in order."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gateway.routing.decider import Verdict
from gateway.routing.profile import Choice
from gateway.routing.scene import Query


@dataclass(frozen=True, slots=True)
class Waiting:
    """One request, planned for `worker`, whose own time it would take `seconds` of.

    `rank`: the least goes first. `is_pinned`: its prompt is on that worker already, whatever the
    index knows.
    """

    request_id: str
    worker: str
    seconds: float
    num_tokens: int
    rank: float
    since: float
    query: Query = field(repr=False)
    verdict: Verdict = field(repr=False)
    choice: Choice | None = field(default=None, repr=False)
    is_pinned: bool = False


@dataclass(slots=True)
class _Lane:
    items: list[Waiting] = field(default_factory=list)
    seconds: float = 0.0


class Lanes:
    """One for each worker. `on_change` is told a worker, how many wait for it, and how long that
    will take.
    """

    def __init__(self, on_change: Callable[[str, int, float], None]) -> None:
        self._on_change = on_change
        self._lanes: dict[str, _Lane] = {}
        self._items: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._items

    @property
    def workers(self) -> tuple[str, ...]:
        """Those that somebody waits for."""
        return tuple(self._lanes)

    def lane(self, worker: str) -> tuple[Waiting, ...]:
        """In order."""
        lane = self._lanes.get(worker)
        return tuple(lane.items) if lane else ()

    def longest(self) -> str | None:
        """The worker that most seconds wait for."""
        lanes = self._lanes
        return max(lanes, key=lambda worker: lanes[worker].seconds, default=None)

    def put(self, item: Waiting) -> None:
        """Raises ValueError if it waits already."""
        if item.request_id in self._items:
            raise ValueError(f"{item.request_id} waits already")
        lane = self._lanes.setdefault(item.worker, _Lane())
        insort(lane.items, item, key=lambda each: each.rank)
        lane.seconds += item.seconds
        self._items[item.request_id] = item
        self._tell(item.worker)

    def take(self, request_id: str) -> Waiting | None:
        """Out of the queue; None if it does not wait."""
        item = self._items.pop(request_id, None)
        if item is None:
            return None
        lane = self._lanes[item.worker]
        lane.items.remove(item)
        lane.seconds = max(0.0, lane.seconds - item.seconds)
        if not lane.items:
            del self._lanes[item.worker]
        self._tell(item.worker)
        return item

    def __iter__(self) -> Iterator[Waiting]:
        return iter(tuple(self._items.values()))

    def _tell(self, worker: str) -> None:
        lane = self._lanes.get(worker)
        self._on_change(worker, len(lane.items) if lane else 0, lane.seconds if lane else 0.0)

    def check_integrity(self) -> None:
        """Raises AssertionError if the parts contradict each other."""
        listed = [item for lane in self._lanes.values() for item in lane.items]
        assert len(listed) == len(self._items), self
        for item in listed:
            assert self._items[item.request_id] is item, item
        for worker, lane in self._lanes.items():
            assert lane.items, worker
            assert all(item.worker == worker for item in lane.items), worker
            ranks = [item.rank for item in lane.items]
            assert ranks == sorted(ranks), worker

    def __repr__(self) -> str:
        return f"<Lanes {len(self._items)} waiting for {len(self._lanes)} workers>"
