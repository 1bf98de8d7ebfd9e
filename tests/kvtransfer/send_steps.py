"""What a prefill engine and a receiver do to a send ledger."""

from __future__ import annotations

from dataclasses import replace

from kvtransfer.causes import Cause
from kvtransfer.sends import Parcel, SendLedger
from tests.kvtransfer.builders import LAYOUT, make_source, make_ticket

LEASE = 30.0
TWO_BLOCKS = 2 * LAYOUT.num_heads * LAYOUT.head_bytes
TWO_RANKS = replace(LAYOUT, tensor_parallel_size=2)
T1, T2, T3 = make_ticket(1), make_ticket(2), make_ticket(3)


def new_ledger() -> SendLedger:
    """No parcel has more than two blocks."""
    return SendLedger(make_source(max_payload_bytes=TWO_BLOCKS))


def prefill(
    ledger: SendLedger,
    ticket: bytes = T1,
    request_id: str = "p1",
    num_tokens: int = 10,
    now: float = 0.0,
    first_block: int = 0,
) -> None:
    """Opens the send, if it is not open, and computes the first `num_tokens` tokens."""
    ledger.open(ticket, request_id, LEASE, now)
    blocks = range(first_block, first_block + LAYOUT.num_blocks(num_tokens))
    ledger.place(request_id, tuple(blocks))
    for layer in range(LAYOUT.num_layers):
        ledger.layer_computed(request_id, layer, num_tokens, now)


def parcels(ledger: SendLedger) -> list[Parcel]:
    """Everything that can be packed now."""
    found = []
    while one := ledger.next_parcel():
        found.append(one)
        ledger.check_integrity()
    return found


def send_all(ledger: SendLedger, now: float = 0.0) -> list[Parcel]:
    found = parcels(ledger)
    for parcel in found:
        ledger.segment_done(parcel, is_sent=True, now=now)
    return found


def causes(ledger: SendLedger) -> list[Cause]:
    return [refusal.message.cause for refusal in ledger.take_refusals()]


def reasons(ledger: SendLedger) -> list[str]:
    return [refusal.message.reason for refusal in ledger.take_refusals()]
