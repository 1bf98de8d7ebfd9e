"""A worker without an engine in a process of its own: `python -m tests.suites.transfer_worker`.

The first line of its standard input says how to start, every further one what to do; it answers
in lines. It ends when its input does.
"""

from __future__ import annotations

import faulthandler
import queue
import random
import signal
import sys
import threading
from typing import Any

import msgspec

from kvtransfer.mover_config import MoverConfig
from kvtransfer.ucx import UcxTransport
from proto.layout import KvLayout
from tests.kvtransfer.engine import Worker
from tests.kvtransfer.wrapped import TamperedTransport
from tests.suites.transfer_engine import NUM_BLOCKS, Engine
from tests.suites.transfer_tamper import Tampering

BUSY_SECONDS = 0.002


class Start(msgspec.Struct, frozen=True):
    """`host`: workers of one share memory. `layout` is a KvLayout, as JSON."""

    host: str
    layout: str
    config: MoverConfig
    ucx: dict[str, str] = {}


class Commands:
    """Lines of standard input, read by a thread of their own."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()

    def take(self, is_busy: bool) -> dict[str, Any] | None:
        """The next one, waited for if there is nothing else to do. Raises EOFError at the end."""
        try:
            line = self._lines.get(timeout=BUSY_SECONDS if is_busy else None)
        except queue.Empty:
            return None
        if not line:
            raise EOFError
        command: dict[str, Any] = msgspec.json.decode(line)
        return command

    def _read(self) -> None:
        for line in sys.stdin:
            self._lines.put(line)
        self._lines.put("")


def say(event: str, **more: object) -> None:
    sys.stdout.write(msgspec.json.encode({"event": event, **more}).decode() + "\n")
    sys.stdout.flush()


def obey(command: dict[str, Any], engine: Engine, tampering: Tampering) -> None:
    match command.pop("do"):
        case "prefill":
            engine.prefill(**command)
        case "abort":
            engine.abort(**command)
        case "load":
            source = bytes.fromhex(command.pop("source"))
            engine.load(**command, source=source)
        case "cancel":
            engine.cancel(**command)
        case "revoke":
            engine.worker.mover.revoke(bytes.fromhex(command["ticket"]), "the gateway says so")
        case "tamper":
            tampering.dice = random.Random(command["seed"])
            tampering.how = command["how"]
        case "check":
            say("checked", **engine.check())
        case unknown:
            raise ValueError(unknown)


def main() -> None:
    faulthandler.register(signal.SIGUSR1)
    start = msgspec.json.decode(sys.stdin.readline(), type=Start)
    tampering = Tampering()
    transport = TamperedTransport(UcxTransport(start.ucx, start.host.encode()), tampering)
    layout = KvLayout.from_json(start.layout)
    with Worker(transport, start.config, layout, NUM_BLOCKS) as worker:
        engine, commands = Engine(worker, say), Commands()
        say("ready", address=worker.address.hex())
        try:
            while True:
                if command := commands.take(engine.is_busy):
                    obey(command, engine, tampering)
                engine.turn()
        except EOFError:
            return


if __name__ == "__main__":
    main()
