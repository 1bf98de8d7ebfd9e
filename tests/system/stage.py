"""One fleet at a time: the machine has no cores for two."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.system.live_fleet import LiveFleet


class Stage:
    """Starts fleets by name, and ends one before the next begins."""

    def __init__(self, folder: Path, model: Path) -> None:
        self._folder = folder
        self._model = model
        self._name = ""
        self._fleet: LiveFleet | None = None
        self._num_shown = 0

    def show(self, name: str, *flags: str, variables: Mapping[str, str] | None = None) -> LiveFleet:
        """The fleet of that name; started if another one, or none, is up."""
        if self._fleet and self._name == name and self._fleet.process.poll() is None:
            return self._fleet
        self.clear()
        self._num_shown += 1
        folder = self._folder / f"{name}-{self._num_shown}"
        self._fleet = LiveFleet(folder, self._model, *flags, variables=variables)
        self._name = name
        return self._fleet

    def clear(self) -> None:
        if self._fleet:
            self._fleet.close()
            self._fleet = None
