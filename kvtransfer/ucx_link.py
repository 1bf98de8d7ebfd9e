"""A way to one remote inbox: a UCX worker of its own with one endpoint."""

from __future__ import annotations

from typing import Any

from kvtransfer.errors import TransportUnavailable
from kvtransfer.peer_process import PeerProcess
from kvtransfer.staging import Slot
from kvtransfer.transport import Kind
from kvtransfer.ucx_address import UcxAddress
from kvtransfer.ucx_inbox import (
    CANCEL_STEP_NANOSECONDS,
    CANCEL_STEPS,
    InboxOwner,
    UcxInbox,
    UcxOperation,
)
from kvtransfer.ucx_library import destroy_worker, lanes_of


class UcxLink(UcxInbox):
    """See `Link`. `process` is what it leads to if that is on this host; the endpoint handles
    errors if not.

    Raises TransportUnavailable.
    """

    def __init__(
        self,
        ucxx: Any,
        context: Any,
        owner: InboxOwner,
        here: UcxAddress,
        there: UcxAddress,
        process: PeerProcess | None,
    ) -> None:
        try:
            super().__init__(ucxx, context, owner)
        except Exception as error:
            raise TransportUnavailable(f"UCX can open no more links: {error}") from error
        self.address = UcxAddress(here.host, here.process, self.worker_address).pack()
        self.process = process
        try:
            self._endpoint = ucxx.UCXEndpoint.create_from_worker_address(
                self.worker,
                ucxx.UCXAddress.create_from_buffer(there.worker),
                endpoint_error_handling=process is None,
            )
        except Exception as error:
            super().close()
            raise TransportUnavailable(f"no UCX link to that address: {error}") from error

    @property
    def is_broken(self) -> bool:
        if self.process is not None:
            return self.process.is_gone
        return not self.is_closed and not self._endpoint.alive

    @property
    def lanes(self) -> list[str]:
        """The transports and devices that UCX uses for this link, as "sysv/memory"."""
        return [] if self.is_closed else lanes_of(self._endpoint.handle)

    def send(self, kind: Kind, buffer: Slot) -> UcxOperation:
        request = self._endpoint.tag_send(self.ucxx.Array(buffer), self._tags[kind])
        return self.started(request, buffer)

    def close(self) -> None:
        if self.is_closed:
            return
        has_work = self.is_busy
        endpoint, worker = self._endpoint, self.worker
        # ucxx cannot close one that has failed.
        closing = self._close_endpoint() if endpoint.alive else None
        self._endpoint = None
        requests = self.end()
        if has_work or (closing and not closing.completed):
            destroy_worker(worker, endpoint, closing, *requests)
        if self.process is not None:
            self.process.close()

    def _close_endpoint(self) -> Any:
        """What tells whether it has ended: without error handling that may never come, so it
        is not waited for.
        """
        if self.process is not None:
            return self._endpoint.close()
        self._endpoint.close_blocking(CANCEL_STEP_NANOSECONDS, CANCEL_STEPS)
        return None
