"""Engines in processes of their own, and prompts handed from one to the other."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from kvtransfer.handoff import DecodeHandoff, PrefillHandoff, to_params
from kvtransfer.offload import OffloadPlan
from kvtransfer.stats import Transfers, total
from proto.fleet_key import FleetKey
from proto.layout import KvLayout
from tests.engines.host import Generate, Generated, HostSettings, serve

START_SECONDS = 180.0
STOP_SECONDS = 60.0
PATIENCE_SECONDS = 120.0
LEASE_SECONDS = 60.0


@dataclass
class Engine:
    """The other end of a host's pipe. It may still start; whoever asks first waits for it."""

    pipe: Connection
    _is_ready: bool = False
    _is_stopping: bool = False
    _done: dict[str, Generated] = field(default_factory=dict)

    @cached_property
    def layout(self) -> KvLayout:
        return KvLayout.from_json(self.ask("baton_kv_layout")[0])

    @cached_property
    def addresses(self) -> tuple[bytes, ...]:
        return tuple(self.ask("baton_transfer_address"))

    def stop(self) -> None:
        """Tells it to, once."""
        if not self._is_stopping:
            self._is_stopping = True
            self.wait_until_ready()
            self.pipe.send(None)

    def wait_until_ready(self) -> None:
        if not self._is_ready:
            self._receive(START_SECONDS)
            self._is_ready = True

    def ask(self, method: str, *arguments: object) -> list[Any]:
        """One answer per rank."""
        self.wait_until_ready()
        self.pipe.send((method, *arguments))
        while isinstance(answer := self._receive(PATIENCE_SECONDS), Generated):
            self._done[answer.request_id] = answer
        answers: list[Any] = answer
        return answers

    @property
    def transfers(self) -> Transfers:
        return total(self.ask("baton_transfers"))

    def submit(self, order: Generate) -> None:
        self.wait_until_ready()
        self.pipe.send(order)

    def result(self, request_id: str) -> Generated:
        """Raises TimeoutError."""
        while request_id not in self._done:
            found = self._receive(PATIENCE_SECONDS)
            self._done[found.request_id] = found
        return self._done.pop(request_id)

    def compute(self, prompt: Sequence[int], max_tokens: int, **options: Any) -> Generated:
        """All of it here, with nothing from a cache."""
        name = secrets.token_hex(4)
        self.submit(Generate(name, tuple(prompt), max_tokens, salt=name, **options))
        return self.result(name)

    def wait_until_free(self) -> Transfers:
        """Nothing is open, and every staging slot is back."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = self.transfers
            if not (found.open_sends or found.open_loads or found.staging_bytes):
                return found
            assert time.monotonic() < deadline, found

    def _receive(self, timeout_seconds: float) -> Any:
        if not self.pipe.poll(timeout_seconds):
            raise TimeoutError("the engine does not answer")
        return self.pipe.recv()


@dataclass(frozen=True)
class Hosts:
    """Starts engines that share a fleet key."""

    folder: Path

    @contextmanager
    def start(
        self,
        model: Path,
        cores: Sequence[int] = (0, 1),
        transfer: Mapping[str, object] | None = None,
        offload: OffloadPlan | None = None,
        events: str = "",
        **engine: object,
    ) -> Iterator[Engine]:
        key_file = self.folder / "fleet-key"
        if not key_file.exists():
            key_file.touch(0o600)
            key_file.write_text(FleetKey.new().to_hex())
        settings = HostSettings(
            str(model),
            tuple(cores),
            {"fleet_key_file": str(key_file), "ucx": {"NET_DEVICES": "lo"}, **(transfer or {})},
            engine,
            offload,
            events,
        )
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(theirs, settings))
        process.start()
        theirs.close()
        try:
            other_end = Engine(ours)
            yield other_end
            other_end.stop()
            process.join(STOP_SECONDS)
        finally:
            process.kill()
            process.join()
            ours.close()


def hand_over(
    prefill: Engine, decode: Engine, prompt: Sequence[int], max_tokens: int = 8, **options: Any
) -> Generated:
    """Both legs at once, as the gateway does it; the prompt is in nobody's prefix cache."""
    ticket, name = secrets.token_bytes(16), secrets.token_hex(4)
    to_decode = DecodeHandoff(ticket, LEASE_SECONDS, "prefill/1", prefill.addresses)
    to_prefill = PrefillHandoff(ticket, LEASE_SECONDS)
    salt = secrets.token_hex(4)
    decode.submit(Generate(name, tuple(prompt), max_tokens, salt, to_params(to_decode), **options))
    prefill.submit(Generate(f"p{name}", tuple(prompt), 1, salt, to_params(to_prefill)))
    prefill.result(f"p{name}")
    return decode.result(name)


def moved_bytes(source: KvLayout, target: KvLayout, num_tokens: int) -> int:
    """What a hand-off of a prompt of `num_tokens` moves: the receiver's blocks of all but its
    last token, whole, to each rank that holds them.
    """
    num_replicas = target.shard(0).num_replicas
    block = target.head_bytes * target.num_heads * target.num_layers * num_replicas
    return target.num_blocks(num_tokens - 1) * block
