"""Questions to an engine rank's transfer thread, asked by `collective_rpc`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from vllm.distributed import get_pp_group
from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.multi_connector import MultiConnector

if TYPE_CHECKING:
    from kvtransfer.mover import Mover


class TransferExtension:
    """Mixed into vLLM's worker by `worker_extension_cls`, hence the names' prefix."""

    model_runner: Any

    def baton_transfer_address(self) -> bytes:
        """Where this rank's transport is reached."""
        return _mover().transport.address

    def baton_kv_layout(self) -> str:
        """The engine's KvLayout as JSON, the same from each rank."""
        return _mover().loads.layout.to_json()

    def baton_transfers(self) -> dict[str, float]:
        """What this rank has moved, and what is open."""
        return asdict(_mover().stats())

    def baton_tickets(self) -> dict[bytes, int]:
        """Bytes of the paged cache that this rank holds or waits for, by open ticket."""
        return _mover().tickets()

    def baton_revoke(self, ticket_id: bytes, reason: str) -> bool:
        """Ends the ticket's send or load; a load is recomputed. False if there is none."""
        return _mover().revoke(ticket_id, reason)

    def baton_prepare_stage(self) -> None:
        """Room for what comes from the pipeline stage before this one.

        vLLM's GPU workers make it in a trial run, which its CPU workers leave out in eager mode.
        """
        runner = self.model_runner
        if runner.intermediate_tensors is None and not get_pp_group().is_first_rank:
            runner.intermediate_tensors = runner.model.make_empty_intermediate_tensors(
                batch_size=runner.max_num_tokens,
                dtype=runner.model_config.dtype,
                device=runner.device,
            )

    def baton_introduce(self, addresses: Sequence[bytes]) -> None:
        """Makes the links to these peers now, before a request needs them."""
        mover = _mover()
        mover.post(partial(mover.dialogue.introduce, addresses))

    def baton_part(self, addresses: Sequence[bytes]) -> None:
        """These peers are gone: what was to come from them is recomputed."""
        mover = _mover()
        mover.post(partial(mover.dialogue.part, addresses))


def connector_of_rank() -> Any:
    """The one that hands prompts over, alone or the first of several."""
    connector = get_kv_transfer_group()
    return connector.sub_connectors[0] if isinstance(connector, MultiConnector) else connector


def _mover() -> Mover:
    # Not before: with another connector, no second UCX is to be in this process.
    from kvtransfer.connector import BatonConnector

    connector = connector_of_rank()
    assert isinstance(connector, BatonConnector)
    return connector.worker.mover
