"""Which open leg belongs to which session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import count

from worker.errors import DuplicateRequest
from worker.leg import Role

MAX_ID_IN_NAME = 64


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """`request_id` is the gateway's, unique in its session; `engine_id` ours, unique for good.
    `kv_tokens`: room in the KV cache that is reserved for it.
    """

    session: int
    request_id: str
    role: Role
    engine_id: str
    kv_tokens: int = 0


class Ledger:
    """Every leg that was submitted and has neither finished nor been given up.

    Pure and synchronous. A leg that was closed is unknown: what the engine still says of it
    goes nowhere.
    """

    def __init__(self) -> None:
        self._legs: dict[str, OpenLeg] = {}
        self._sessions: dict[int, dict[str, str]] = {}
        self._num_open: Counter[Role] = Counter()
        self.reserved_tokens = 0
        self._numbers = count(1)

    def open(self, session: int, request_id: str, role: Role, kv_tokens: int = 0) -> OpenLeg:
        """Raises DuplicateRequest."""
        ids = self._sessions.setdefault(session, {})
        if request_id in ids:
            raise DuplicateRequest
        engine_id = f"{role}-{next(self._numbers)}-{request_id[:MAX_ID_IN_NAME]}"
        leg = OpenLeg(session, request_id, role, engine_id, kv_tokens)
        self._legs[engine_id] = leg
        ids[request_id] = engine_id
        self._num_open[role] += 1
        self.reserved_tokens += kv_tokens
        return leg

    def reserve(self, session: int, request_id: str, kv_tokens: int) -> bool:
        """So much from now on, instead of what it had. False if it is not open."""
        engine_id = self._sessions.get(session, {}).get(request_id)
        if engine_id is None:
            return False
        leg = self._legs[engine_id]
        self._legs[engine_id] = replace(leg, kv_tokens=kv_tokens)
        self.reserved_tokens += kv_tokens - leg.kv_tokens
        return True

    def close(self, engine_id: str) -> OpenLeg | None:
        """None if it is not open."""
        leg = self._legs.pop(engine_id, None)
        if leg is not None:
            del self._sessions[leg.session][leg.request_id]
            self._num_open[leg.role] -= 1
            self.reserved_tokens -= leg.kv_tokens
        return leg

    def close_request(self, session: int, request_id: str) -> OpenLeg | None:
        """None if it is not open."""
        engine_id = self._sessions.get(session, {}).get(request_id)
        return self.close(engine_id) if engine_id is not None else None

    def close_session(self, session: int) -> list[OpenLeg]:
        """Everything that was open in it. The session's number is not used again."""
        engine_ids = self._sessions.get(session, {}).values()
        closed = [leg for engine_id in list(engine_ids) if (leg := self.close(engine_id))]
        self._sessions.pop(session, None)
        return closed

    def route(self, outputs: Iterable[tuple[str, bool]]) -> dict[int, dict[str, str]]:
        """Per session the request id of each engine id in `outputs`.

        An output is an engine id and whether it is that leg's last, which closes the leg.
        """
        routes: dict[int, dict[str, str]] = {}
        for engine_id, is_last in outputs:
            leg = self.close(engine_id) if is_last else self._legs.get(engine_id)
            if leg is not None:
                routes.setdefault(leg.session, {})[engine_id] = leg.request_id
        return routes

    def num_open(self, role: Role) -> int:
        return self._num_open[role]

    def check_integrity(self) -> None:
        """Raises AssertionError if the two indexes or the counts disagree."""
        by_session = {
            engine_id: (session, request_id)
            for session, ids in self._sessions.items()
            for request_id, engine_id in ids.items()
        }
        by_leg = {name: (leg.session, leg.request_id) for name, leg in self._legs.items()}
        assert by_session == by_leg, "a leg is missing in an index"
        counted = Counter(leg.role for leg in self._legs.values())
        assert counted == +self._num_open, "the counts are not those of the open legs"
        reserved = sum(leg.kv_tokens for leg in self._legs.values())
        assert reserved == self.reserved_tokens, "reserved is not what the open legs have"

    def __repr__(self) -> str:
        held = ", ".join(f"{self._num_open[role]} {role}" for role in Role)
        return f"<Ledger: {held}, {len(self._sessions)} sessions>"
