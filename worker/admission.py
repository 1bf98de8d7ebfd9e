"""Whether a submitted leg is taken, and what the engine is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from proto import worker_pb2
from proto.ticket import Ticket
from worker.errors import BadRequest, Overloaded, RoleNotServed, StaleTicket, Stopping
from worker.ledger import Ledger
from worker.leg import Leg, Order, Role, role_of, transfer_params

MAX_REQUEST_ID_LENGTH = 256
MAX_ADDRESS_BYTES = 4096
MAX_LEASE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this worker is in tickets. `num_ranks`: of its engine, and of any that it pairs with."""

    worker_id: str
    incarnation: str
    num_ranks: int


class Admission:
    """Takes legs until `stop`."""

    def __init__(self, identity: Identity, legs: Iterable[Leg], ledger: Ledger) -> None:
        self._identity = identity
        self._legs = {leg.role: leg for leg in legs}
        self._ledger = ledger
        self._is_stopping = False

    @property
    def roles(self) -> tuple[Role, ...]:
        return tuple(self._legs)

    def stop(self) -> None:
        self._is_stopping = True

    def admit(self, session: int, submit: worker_pb2.Submit) -> Order:
        """The leg is open in the ledger then. Raises RequestError."""
        leg = self._leg(submit)
        self._check_room(leg)
        check_request(submit)
        ticket = self._ticket(leg.role, submit)
        transfer = transfer_params(leg.role, ticket)
        opened = self._ledger.open(session, submit.request_id, leg.role)
        return Order(opened.engine_id, leg, tuple(submit.request), transfer)

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

    def _ticket(self, role: Role, submit: worker_pb2.Submit) -> Ticket | None:
        if not submit.HasField("ticket"):
            return None
        try:
            ticket = Ticket.from_proto(submit.ticket)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        check_ticket(ticket, self._identity.num_ranks)
        us = self._identity.worker_id, self._identity.incarnation
        if role is Role.PREFILL and (ticket.source_worker, ticket.source_incarnation) != us:
            raise StaleTicket
        return ticket


def check_request(submit: worker_pb2.Submit) -> None:
    """Raises BadRequest."""
    if not 0 < len(submit.request_id) <= MAX_REQUEST_ID_LENGTH:
        raise BadRequest(f"a request id has 1 to {MAX_REQUEST_ID_LENGTH} characters")
    if not submit.request_id.isprintable():
        raise BadRequest("a request id is printable")
    if not submit.request:
        raise BadRequest("the request is missing")


def check_ticket(ticket: Ticket, num_ranks: int) -> None:
    """Raises BadRequest."""
    # The engine takes its own rank's address, and would fail as a whole without one.
    if len(ticket.source_addresses) != num_ranks:
        raise BadRequest(
            f"the ticket has {len(ticket.source_addresses)} source addresses "
            f"for an engine of {num_ranks} ranks"
        )
    if not all(0 < len(address) <= MAX_ADDRESS_BYTES for address in ticket.source_addresses):
        raise BadRequest(f"a source address has 1 to {MAX_ADDRESS_BYTES} bytes")
    if ticket.lease_seconds > MAX_LEASE_SECONDS:
        raise BadRequest(f"a lease lasts at most {MAX_LEASE_SECONDS:g} seconds")
