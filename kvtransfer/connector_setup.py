"""Builds what one engine rank needs to move KV, from vLLM's configuration and ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from vllm.logger import init_logger
from vllm.model_executor.models.utils import extract_layer_index

from kvtransfer.connector_cache import TorchPagedCache
from kvtransfer.connector_device import DeviceEnvelope, allocator
from kvtransfer.connector_layout import layout_of
from kvtransfer.connector_worker import WorkerHalf
from kvtransfer.envelope import Envelope, HostEnvelope
from kvtransfer.errors import LayoutUnsupported
from kvtransfer.faults import CorruptingTransport, FalsifyingEnvelope
from kvtransfer.messages import MAX_LAYOUT_CHARS
from kvtransfer.mover import Mover, slots_of
from kvtransfer.mover_config import MoverConfig
from kvtransfer.seal import Seal
from kvtransfer.staging import Slot, allocate
from kvtransfer.transport import Transport
from kvtransfer.ucx import UcxTransport
from kvtransfer.wire import WireFormat
from proto.fleet_key import FleetKey

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.kv_cache_interface import KVCacheConfig

logger = init_logger("vllm.baton.connector")

MOVER_SETTINGS = ("staging_bytes", "slot_bytes", "stall_seconds", "ping_seconds")


def open_worker_half(
    config: VllmConfig,
    kv_config: KVCacheConfig,
    kv_caches: Mapping[str, torch.Tensor],
    extra: Mapping[str, Any],
) -> WorkerHalf:
    """With its transfer thread running.

    Raises LayoutUnsupported, StagingTooSmall, TransportUnavailable, and BadFleetKey.
    """
    layers = dict(sorted(kv_caches.items(), key=lambda each: extract_layer_index(each[0])))
    layout = layout_of(config, kv_config, layers)
    if len(layout.to_json()) > MAX_LAYOUT_CHARS:
        raise LayoutUnsupported(
            f"the KV layout takes more than {MAX_LAYOUT_CHARS} characters to say"
        )
    cache = TorchPagedCache(list(layers.values()), layout, config.parallel_config.rank)
    seal = Seal(FleetKey.read(extra["fleet_key_file"]))
    mover = make_mover(cache, seal, extra)
    mover.start()
    logger.info("KV transfer: %s", layout.summary)
    return WorkerHalf(mover, cache, layers)


def make_mover(cache: TorchPagedCache, seal: Seal, extra: Mapping[str, Any]) -> Mover:
    """`staging` "device" keeps the slots in the GPU's memory; else they are pinned, if there
    is a GPU.
    """
    settings = {key: extra[key] for key in MOVER_SETTINGS if key in extra}
    config = MoverConfig(wire=WireFormat(extra.get("wire", "raw")), **settings).with_pings()
    transport = make_transport(extra)
    if extra.get("staging") != "device":
        slots = pinned if cache.device.type == "cuda" else allocate
        return Mover(transport, cache, seal, config, slots, host_envelope(extra))
    if cache.device.type != "cuda":
        raise LayoutUnsupported("staging in device memory needs a GPU: use host staging")
    envelope = DeviceEnvelope(slots_of(config, cache).num_bytes, cache.device)
    return Mover(transport, cache, seal, config, allocator(cache.device), envelope)


def make_transport(extra: Mapping[str, Any]) -> Transport:
    settings = extra.get("ucx", {})
    transport = UcxTransport(settings)
    logger.info("UCX transports: %s", " ".join(transport.transports))
    is_local = settings.get("NET_DEVICES") == "lo"
    if transport.warning and not is_local:
        logger.warning(transport.warning)
    if extra.get("fault") == "corrupt":
        logger.warning("KV is corrupted on purpose: fault=corrupt is set")
        return CorruptingTransport(transport)
    return transport


def host_envelope(extra: Mapping[str, Any]) -> Envelope:
    if extra.get("fault") == "falsify":
        logger.warning("KV is falsified on purpose: fault=falsify is set")
        return FalsifyingEnvelope(HostEnvelope())
    return HostEnvelope()


def pinned(num_bytes: int) -> Slot:
    """Host memory that a GPU copies to and from without a detour; UCX registers it once."""
    buffer: Slot = torch.zeros(num_bytes, dtype=torch.uint8, pin_memory=True).numpy()
    return buffer
