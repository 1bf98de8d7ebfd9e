"""Whether a submitted leg is taken, and what the engine is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from proto import worker_pb2
from worker.errors import (
    BadRequest,
    NoCredit,
    Overloaded,
    RoleNotServed,
    Stopping,
    TicketRefused,
)
from worker.ledger import Ledger
from worker.leg import Leg, Order, Role, role_of
from worker.ticket_check import TicketCheck

MAX_REQUEST_ID_LENGTH = 256
MAX_TRANSFER_PARAMS_BYTES = 2**20


class Admission:
    """Takes legs until `stop`. `kv_tokens`: what the KV cache has room for."""

    def __init__(
        self, legs: Iterable[Leg], ledger: Ledger, tickets: TicketCheck, kv_tokens: int
    ) -> None:
        self._legs = {leg.role: leg for leg in legs}
        self._ledger = ledger
        self._tickets = tickets
        self._kv_tokens = kv_tokens
        self._is_stopping = False

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(self._legs)

    def stop(self) -> None:
        self._is_stopping = True

    def admit(self, session: int, submit: worker_pb2.Submit) -> Order:
        """The leg is open in the ledger then. Raises RequestError.

        See `without_ticket` for a ticket that is refused.
        """
        leg = self._leg(submit)
        self._check_room(leg)
        check_request(submit)
        if leg.role is Role.PREFILL and not submit.HasField("ticket"):
            raise BadRequest("a prefill leg needs a ticket")
        self._check_credit(submit.kv_tokens)
        opened = self._ledger.open(session, submit.request_id, leg.role, submit.kv_tokens)
        order = Order(
            opened.engine_id, leg, tuple(submit.request), peer_params=submit.transfer_params
        )
        if not submit.HasField("ticket"):
            return order
        try:
            return replace(order, ticket=self._tickets.take(opened, submit.ticket))
        except TicketRefused as refusal:
            return self.without_ticket(order, refusal)

    def without_ticket(self, order: Order, refusal: TicketRefused) -> Order:
        """A decode leg's order to compute the prompt itself. The refusal is counted.

        Raises the refusal for a prefill leg, which is closed then.
        """
        self._tickets.ledger.refuse(order.engine_id, refusal.cause)
        if order.leg.role is Role.PREFILL:
            self._ledger.close(order.engine_id)
            raise refusal
        return replace(order, ticket=None, refusal=refusal)

    def _leg(self, submit: worker_pb2.Submit) -> Leg:
        role = role_of(submit.leg)
        if role is None:
            raise BadRequest(f"there is no leg {submit.leg}")
        if role not in self._legs:
            raise RoleNotServed(role)
        return self._legs[role]

    def _check_room(self, leg: Leg) -> None:
        if self._is_stopping:
            raise Stopping
        num_open = self._ledger.num_open(leg.role)
        if num_open >= leg.max_open_requests:
            raise Overloaded(num_open)

    def _check_credit(self, num_tokens: int) -> None:
        """What is larger than the whole cache may come alone."""
        reserved = self._ledger.reserved_tokens
        if num_tokens and reserved and reserved + num_tokens > self._kv_tokens:
            raise NoCredit(num_tokens, max(0, self._kv_tokens - reserved))


def check_request(submit: worker_pb2.Submit) -> None:
    """Raises BadRequest."""
    if not 0 < len(submit.request_id) <= MAX_REQUEST_ID_LENGTH:
        raise BadRequest(f"a request id has 1 to {MAX_REQUEST_ID_LENGTH} characters")
    if not submit.request_id.isprintable():
        raise BadRequest("a request id is printable")
    if not submit.request:
        raise BadRequest("the request is missing")
    if len(submit.transfer_params) > MAX_TRANSFER_PARAMS_BYTES:
        raise BadRequest(f"transfer parameters take up to {MAX_TRANSFER_PARAMS_BYTES} bytes")
