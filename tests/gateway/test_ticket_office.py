from __future__ import annotations

from gateway.ticket_office import TicketOffice
from tests.gateway.builders import make_request, make_worker
from tests.proto.builders import KEY, LAYOUT


def test_a_ticket_is_for_one_prompt_out_of_one_worker() -> None:
    office = TicketOffice(KEY, lease_seconds=125.0, clock=lambda: 1000.0)
    request = make_request(num_prompt_tokens=7)
    ticket = office.issue(make_worker("p/1"), request)
    assert ticket.is_signed_by(KEY)
    assert (ticket.source, ticket.source_addresses) == ("p/1", (b"address of p",))
    assert (ticket.model_fingerprint, ticket.layout_fingerprint) == ("model", LAYOUT.fingerprint)
    assert (ticket.prompt_digest, ticket.num_tokens) == (request.prompt_digest, 7)
    assert (ticket.lease_seconds, ticket.expires_at) == (125.0, 1125.0)
    assert office.issue(make_worker("p/1"), request).id != ticket.id
