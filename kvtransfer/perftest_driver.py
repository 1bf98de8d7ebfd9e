"""The process of the performance test that asks: ours and UCX's own test by turns."""

from __future__ import annotations

from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from kvtransfer.perftest_peer import (
    MAX_REQUEST_BYTES,
    Peer,
    Streamed,
    receive,
    send,
    settle_in,
)
from kvtransfer.perftest_reference import Measurement, ReferenceServer
from kvtransfer.ucx import UcxTransport
from kvtransfer.ucx_settings import BETWEEN_HOSTS, INSIDE_A_HOST

WARM_UP_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Settings:
    """`seconds` is for each measurement, of which `rounds` are made; `tls` is a UCX_TLS for
    everybody; `cores` are for this process and for the other one.
    """

    seconds: float = 0.3
    rounds: int = 5
    window: int = 32
    tls: str | None = None
    cores: tuple[int | None, int | None] = (None, None)
    has_reference: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """Medians for one size. Latency is one way; None where there is no reference."""

    num_bytes: int
    latency_seconds: float
    reference_latency_seconds: float | None
    forth_bytes_per_second: float
    reference_forth_bytes_per_second: float | None
    back_bytes_per_second: float
    reference_back_bytes_per_second: float | None
    both_bytes_per_second: float
    cpu_seconds_per_gb: float


class Driver:
    """Speaks to the other process by `pipe`; `far_host` is where that is reached."""

    def __init__(self, pipe: Connection, far_host: str, settings: Settings) -> None:
        self._pipe = pipe
        self._far_host = far_host
        self._settings = settings
        send(pipe, {"tls": settings.tls, "core": settings.cores[1], "window": settings.window})
        settle_in(settings.tls, settings.cores[0])
        transport = UcxTransport()
        link = transport.connect(pipe.recv_bytes(MAX_REQUEST_BYTES))
        pipe.send_bytes(link.address)
        receive(pipe)
        self._peer = Peer(transport, link, link, settings.window)
        self._ping(1024, 0.0)  # connects
        self.lanes = link.lanes

    def row(self, num_bytes: int) -> Row:
        """All that is measured for this size, `rounds` times by turns."""
        self._stream(num_bytes, True, True, self._settings.seconds * WARM_UP_SHARE)
        rounds = [self._round(num_bytes) for _ in range(self._settings.rounds)]
        middle = {name: _median([each[name] for each in rounds]) for name in rounds[0]}
        return Row(num_bytes, **middle)  # type: ignore[arg-type]

    def close(self) -> None:
        self._peer.close()
        self._pipe.close()

    def _round(self, num_bytes: int) -> dict[str, float | None]:
        seconds = self._settings.seconds
        latency = self._ping(num_bytes, seconds)
        reference_latency = self._reference("latency", num_bytes)
        forth = self._stream(num_bytes, True, False, seconds)
        reference_forth = self._reference("forth", num_bytes)
        back = self._stream(num_bytes, False, True, seconds)
        reference_back = self._reference("back", num_bytes)
        both = self._stream(num_bytes, True, True, seconds)
        one_way = [*forth, *back]
        return {
            "latency_seconds": latency,
            "reference_latency_seconds": reference_latency,
            "forth_bytes_per_second": _rate(forth),
            "reference_forth_bytes_per_second": reference_forth,
            "back_bytes_per_second": _rate(back),
            "reference_back_bytes_per_second": reference_back,
            "both_bytes_per_second": _rate(both),
            "cpu_seconds_per_gb": sum(end.cpu_seconds for end in one_way)
            / sum(end.sent_bytes for end in one_way)
            * 1e9,
        }

    def _ping(self, num_bytes: int, seconds: float) -> float:
        self._ask("echo", num_bytes=num_bytes)
        return self._peer.ping(num_bytes, seconds)

    def _stream(
        self, num_bytes: int, is_forth: bool, is_back: bool, seconds: float
    ) -> tuple[Streamed, Streamed]:
        self._ask("stream", num_bytes=num_bytes, send_seconds=seconds * is_back)
        here = self._peer.stream(num_bytes, seconds * is_forth)
        return here, Streamed(*receive(self._pipe))

    def _reference(self, what: str, num_bytes: int) -> float | None:
        """`what` is "latency", or the direction of the bandwidth."""
        if not self._settings.has_reference:
            return None
        tls = self._settings.tls or (INSIDE_A_HOST if self._is_near else BETWEEN_HOSTS)
        asked: dict[str, Any] = {
            "num_bytes": num_bytes,
            "seconds": self._settings.seconds,
            "tls": tls,
            "handles_errors": not self._is_near,
        }
        here, there = self._settings.cores
        if what == "back":
            with ReferenceServer(tls, here) as server:
                self._ask("reference client", port=server.port, core=there, **asked)
                answer: float | None = receive(self._pipe)
                return answer
        self._ask("reference server", tls=tls, core=there)
        client = Measurement(self._far_host, receive(self._pipe), core=here, **asked)
        measured = client.latency_seconds() if what == "latency" else client.bytes_per_second()
        send(self._pipe, "measured")
        return measured

    @property
    def _is_near(self) -> bool:
        return self._peer.link.process is not None

    def _ask(self, what: str, **details: object) -> None:
        send(self._pipe, {"do": what, **details})


def _rate(ends: tuple[Streamed, Streamed]) -> float:
    return sum(end.sent_bytes for end in ends) / max(end.seconds for end in ends)


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
