"""The gateway's own pages: health, metrics, the fleet's workers, one model."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from fleet.contact import Contact
from gateway.door import MakePage, Page
from gateway.error_shape import ErrorObject
from gateway.metrics import CONTENT_TYPE, GatewayMetrics
from gateway.roster import Roster
from gateway.routes import MODEL
from gateway.worker_link import WorkerLink
from proto import worker_pb2

FRESH_SECONDS = 1.0

Query = Mapping[str, list[str]]
ModelCards = Callable[[], Awaitable[Sequence[Mapping[str, Any]]]]


class Pages:
    """Each page takes the rest of its path and the query."""

    def __init__(
        self,
        roster: Roster,
        metrics: GatewayMetrics,
        model_cards: ModelCards,
        contact: Contact,
    ) -> None:
        self._roster = roster
        self._contact = contact
        self._metrics = metrics
        self._model_cards = model_cards

    def by_path(self) -> dict[str, MakePage]:
        return {
            "/health": self.health,
            "/metrics": self.metrics,
            "/fleet/workers": self.workers,
            MODEL: self.model,
        }

    async def health(self, rest: str, query: Query) -> Page:
        """200 if a request could be answered now, if need be without prefill workers, and
        without the fleet's state.
        """
        decode = self._roster.num_usable(worker_pb2.ROLE_DECODE)
        prefill = self._roster.num_usable(worker_pb2.ROLE_PREFILL)
        content = {
            "status": "ok" if decode else "unavailable",
            "detail": f"{decode} decode and {prefill} prefill workers are usable"
            + outage_words(self._contact),
            "num_decode_workers": decode,
            "num_prefill_workers": prefill,
            "is_fleet_state_reachable": self._contact.is_made,
            "fleet_state_outage_seconds": round(self._contact.outage_seconds, 1),
        }
        return Page.of(content, 200 if decode else 503)

    async def metrics(self, rest: str, query: Query) -> Page:
        return Page(self._metrics.exposition(), content_type=CONTENT_TYPE)

    async def workers(self, rest: str, query: Query) -> Page:
        """With `fresh=1`, each is asked for its load first, for at most FRESH_SECONDS."""
        links = sorted(self._roster.links.values(), key=lambda link: link.key)
        if query.get("fresh", ["0"])[-1] not in ("0", "false", ""):
            await asyncio.gather(*map(refresh, links))
        return Page.of({"workers": [row_of(link) for link in links]})

    async def model(self, rest: str, query: Query) -> Page | ErrorObject:
        for card in await self._model_cards():
            if card["id"] == rest:
                return Page.of(card)
        message = f"The model `{rest}` does not exist."
        return ErrorObject(404, message, "NotFoundError", "model_not_found", "model")


def outage_words(contact: Contact) -> str:
    if contact.is_made:
        return ""
    return (
        f"; fleet state has been unreachable for {contact.outage_seconds:.0f} s: "
        "going on with what is known"
    )


async def refresh(link: WorkerLink) -> None:
    if link.session is None:
        return
    try:
        await link.session.ping(FRESH_SECONDS)
    except TimeoutError:
        return


def row_of(link: WorkerLink) -> dict[str, Any]:
    """One worker, as `/fleet/workers` shows it."""
    report = link.session.report if link.session else None
    return {
        "worker_id": link.member.worker_id,
        "incarnation": link.member.incarnation,
        "role": "+".join(link.member.roles),
        "address": link.member.address,
        "block_size": link.layout.block_size if link.layout else None,
        "state": link.state.value,
        "reason": link.reason,
        "report_age_seconds": link.session.report_age_seconds if link.session else None,
        "load": load_of(report or worker_pb2.LoadReport()),
    }


def load_of(report: worker_pb2.LoadReport) -> dict[str, Any]:
    return {
        "num_running": report.num_running,
        "num_waiting": report.num_waiting,
        "num_kv_blocks": report.num_kv_blocks,
        "num_kv_blocks_used": report.num_kv_blocks_used,
        "transfers": values_of(report.transfers),
        "tickets": values_of(report.tickets),
        "num_reserved_tokens": report.num_reserved_tokens,
        "offloads": values_of(report.offloads),
        "work": values_of(report.work),
    }


def values_of(
    message: worker_pb2.Transfers | worker_pb2.Tickets | worker_pb2.Offloads | worker_pb2.Work,
) -> dict[str, Any]:
    values = {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    return {name: dict(x) if isinstance(x, Mapping) else x for name, x in values.items()}
