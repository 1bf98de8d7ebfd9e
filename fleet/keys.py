"""The names of a fleet's keys."""

from __future__ import annotations

from dataclasses import dataclass

from fleet.member import check_name

# Raised when what is stored under the keys changes its meaning.
SCHEMA = 1


def check_fleet(name: str) -> str:
    """The name. Raises ValueError if it would break the keys."""
    check_name("fleet", name)
    return name


@dataclass(frozen=True, slots=True)
class FleetKeys:
    """Raises ValueError for a name that `check_fleet` refuses."""

    fleet: str

    def __post_init__(self) -> None:
        check_fleet(self.fleet)

    @property
    def index(self) -> str:
        """A set: the worker_ids of those who have a record, or had one a short while ago."""
        return f"baton:{SCHEMA}:{self.fleet}:workers"

    def worker(self, worker_id: str) -> str:
        """A string with a TTL: the member as `Member.encode` writes it."""
        return f"baton:{SCHEMA}:{self.fleet}:worker:{worker_id}"

    def load(self, worker_id: str) -> str:
        """A string with a TTL: its load as `MemberLoad.encode` writes it."""
        return f"baton:{SCHEMA}:{self.fleet}:load:{worker_id}"

    @property
    def block_log(self) -> str:
        """A stream: what workers tell of their blocks, as `block_news.Batch`."""
        return f"baton:{SCHEMA}:{self.fleet}:block-log"

    def blocks(self, worker: str) -> str:
        """A string with a TTL: `block_news.Snapshot` of "worker_id/incarnation"."""
        return f"baton:{SCHEMA}:{self.fleet}:blocks:{worker}"
