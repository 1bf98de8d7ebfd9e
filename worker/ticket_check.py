"""Whether a ticket is taken."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from proto import worker_pb2
from proto.fleet_key import FleetKey
from proto.prompt_digest import Prompt, prompt_digest
from proto.ticket import MAX_LEASE_SECONDS, Ticket
from worker.errors import (
    ExpiredTicket,
    ForeignLayout,
    ForeignModel,
    ForeignPrompt,
    ForeignWorker,
    ForgedTicket,
    MalformedTicket,
)
from worker.identity import Identity
from worker.ledger import OpenLeg
from worker.leg import Role
from worker.peers import PeerBook
from worker.ticket_ledger import TicketLedger

# By how much the clocks of gateway and worker may disagree.
CLOCK_SKEW_SECONDS = 5.0


class Forwards:
    """A clock that is never set back. A ticket that was forgotten because it had expired would be
    good again.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._latest = float("-inf")

    def __call__(self) -> float:
        self._latest = max(self._latest, self._clock())
        return self._latest


@dataclass(frozen=True, slots=True)
class TicketCheck:
    """`unix_clock` is what expiry is told by, `clock` any steady one. Both in seconds."""

    key: FleetKey
    us: Identity
    peers: PeerBook
    ledger: TicketLedger
    unix_clock: Callable[[], float] = field(default_factory=lambda: Forwards(time.time))
    clock: Callable[[], float] = time.monotonic

    def take(self, leg: OpenLeg, message: worker_pb2.Ticket) -> Ticket:
        """It is open in the ledger then, and cannot be taken again.

        Raises TicketRefused. The prompt is not known here: see `check_prompt`.
        """
        try:
            ticket = Ticket.from_proto(message)
        except ValueError as error:
            raise MalformedTicket(str(error)) from error
        if not ticket.is_signed_by(self.key):
            raise ForgedTicket
        valid_seconds = self._valid_seconds(ticket)
        if ticket.model_fingerprint != self.us.model_fingerprint:
            raise ForeignModel(ticket.model_fingerprint, self.us.model_fingerprint)
        if leg.role is Role.PREFILL:
            self._check_is_ours(ticket)
        else:
            self._check_source(leg.session, ticket)
        self.ledger.open(leg.role, leg.engine_id, ticket, self.clock(), valid_seconds)
        return ticket

    def _valid_seconds(self, ticket: Ticket) -> float:
        left = ticket.expires_at + CLOCK_SKEW_SECONDS - self.unix_clock()
        if left <= 0:
            raise ExpiredTicket(CLOCK_SKEW_SECONDS - left)
        if left > MAX_LEASE_SECONDS + 2 * CLOCK_SKEW_SECONDS:
            raise MalformedTicket(f"a ticket is valid for up to {MAX_LEASE_SECONDS:g} seconds")
        return left

    def _check_is_ours(self, ticket: Ticket) -> None:
        if ticket.source != self.us.key:
            raise ForeignWorker(f"the ticket is for {ticket.source}, this is {self.us.key}")
        if ticket.layout_fingerprint != self.us.layout_fingerprint:
            raise ForeignLayout("the ticket is for another KV layout than this worker's")

    def _check_source(self, session: int, ticket: Ticket) -> None:
        peer = self.peers.find(session, ticket.source)
        if peer is None or peer.addresses != ticket.source_addresses:
            raise ForeignWorker(f"the ticket's source {ticket.source} is none that is known here")
        if ticket.layout_fingerprint != peer.layout_fingerprint:
            raise ForeignLayout(f"the ticket is for another KV layout than that of {peer.key}")
        if peer.obstacle:
            raise ForeignLayout(peer.obstacle)


def check_prompt(ticket: Ticket, prompt: Prompt) -> None:
    """Raises ForeignPrompt."""
    if ticket.num_tokens != len(prompt.prompt_token_ids or ()):
        raise ForeignPrompt
    if ticket.prompt_digest != prompt_digest(prompt):
        raise ForeignPrompt
