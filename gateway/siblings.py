"""The choices of one prompt (`n` > 1): one goes through prefill, the others follow it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Siblings:
    """`home` is the decode worker that holds the prompt's KV, once one has answered.

    Until then the leader is on its way and the others wait. If it ends before it has
    brought the KV home, another leads.
    """

    members: set[str] = field(default_factory=set)
    leader: str | None = None
    home: str | None = None
    _waiting: dict[str, None] = field(default_factory=dict)

    def join(self, request_id: str) -> bool:
        """True if it must wait for the leader; else it goes: to `home`, or as the leader."""
        self.members.add(request_id)
        if self.home is not None:
            return False
        if self.leader is None:
            self.leader = request_id
            return False
        self._waiting[request_id] = None
        return True

    def arrive(self, home: str) -> list[str]:
        """The leader's first token came from `home`: who goes there now."""
        self.home = home
        followers = list(self._waiting)
        self._waiting.clear()
        return followers

    def leave(self, request_id: str) -> str | None:
        """The new leader, if this was the old one and others still wait."""
        self.members.discard(request_id)
        self._waiting.pop(request_id, None)
        if request_id != self.leader or self.home is not None:
            return None
        self.leader = next(iter(self._waiting), None)
        if self.leader is not None:
            del self._waiting[self.leader]
        return self.leader

    def withdraw(self, request_id: str) -> None:
        """It waits no longer and cannot lead; it has yet to leave."""
        self._waiting.pop(request_id, None)

    def lose_home(self, worker: str) -> None:
        """The KV is gone with `worker`: the next to come leads."""
        if self.home == worker:
            self.home = self.leader = None

    def check_integrity(self) -> None:
        """Raises AssertionError if the state contradicts itself."""
        assert self._waiting.keys() <= self.members, self
        assert not (self._waiting and self.home), self
        assert not self._waiting or self.leader in self.members, self
        assert self.leader not in self._waiting, self
