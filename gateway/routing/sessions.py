"""Who served a session last, and which adapters are loaded where, as far as this gateway saw."""

from __future__ import annotations

from collections import OrderedDict

MAX_SESSIONS = 1 << 16
MAX_NAME_LENGTH = 128
# An engine keeps a few adapters on its device; older ones may have been swapped out.
MAX_ADAPTERS = 4


class Residency:
    """Bounded; the least recent are forgotten first."""

    def __init__(self) -> None:
        self._sessions: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._adapters: dict[str, OrderedDict[str, None]] = {}

    def workers_of(self, session: str) -> tuple[str, ...]:
        """Those that its last request was sent to."""
        return self._sessions.get(session[:MAX_NAME_LENGTH], ())

    def with_lora(self, lora: str) -> tuple[str, ...]:
        """The workers that have had a request with this adapter lately."""
        if not lora:
            return ()
        return tuple(worker for worker, held in self._adapters.items() if lora in held)

    def note(self, workers: tuple[str, ...], session: str = "", lora: str = "") -> None:
        """A request was sent there."""
        session = session[:MAX_NAME_LENGTH]
        if session:
            self._sessions[session] = workers
            self._sessions.move_to_end(session)
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        for worker in workers if lora else ():
            held = self._adapters.setdefault(worker, OrderedDict())
            held[lora] = None
            held.move_to_end(lora)
            if len(held) > MAX_ADAPTERS:
                held.popitem(last=False)

    def forget(self, worker: str) -> None:
        """It is gone. Its sessions find another."""
        self._adapters.pop(worker, None)
