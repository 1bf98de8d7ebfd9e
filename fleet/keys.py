"""The names of a fleet's keys."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.member import check_name

# Raised when what is stored under the keys changes its meaning.
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """Raises ValueError for a fleet name that would break them."""

    fleet: str

    def __post_init__(self) -> None:
        check_name("fleet", self.fleet)

    @property
    def index(self) -> str:
        """A set: the worker_ids of those who have a record, or had one a short while ago."""
        return f"baton:{SCHEMA}:{self.fleet}:workers"

    def worker(self, worker_id: str) -> str:
        """A string with a TTL: the member as `Member.encode` writes it."""
        return f"baton:{SCHEMA}:{self.fleet}:worker:{worker_id}"
