"""Questions to an engine rank's NixlHandoffConnector, asked by `collective_rpc`."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

from kvtransfer.extension import TransferExtension, connector_of_rank
from kvtransfer.nixl import NixlAddress
from kvtransfer.nixl_connector import NixlHandoffConnector

logger = logging.getLogger("vllm.baton.nixl")


class NixlExtension(TransferExtension):
    """See the overridden methods."""

    def baton_transfer_address(self) -> bytes:
        return _connector().address.encode()

    def baton_kv_layout(self) -> str:
        return _connector().layout.to_json()

    def baton_transfers(self) -> dict[str, float]:
        return asdict(_connector().stats())

    def baton_tickets(self) -> dict[bytes, int]:
        return _connector().ledger.held_bytes()

    def baton_revoke(self, ticket_id: bytes, reason: str) -> bool:
        """False for a load: NIXL cannot call one off."""
        return _connector().ledger.revoke(ticket_id, time.monotonic())

    def baton_introduce(self, addresses: Sequence[bytes]) -> None:
        try:
            peers = {NixlAddress.decode(address) for address in addresses}
        except ValueError as error:
            logger.warning("no NIXL address: %s", error)
            return
        for peer in peers:
            _connector().introduce(peer)

    def baton_part(self, addresses: Sequence[bytes]) -> None:
        """Nothing: NIXL sees by itself that a peer is gone."""


def _connector() -> NixlHandoffConnector:
    connector = connector_of_rank()
    assert isinstance(connector, NixlHandoffConnector)
    return connector
