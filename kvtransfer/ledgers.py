"""Both ledgers of one rank, and the lock that guards them."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock

from kvtransfer.loads import LoadLedger
from kvtransfer.sends import SendLedger


@dataclass(frozen=True, slots=True, eq=False)
class Ledgers:
    """The engine's thread and the transfer thread share them. Whoever holds the lock waits for
    nothing.
    """

    sends: SendLedger
    loads: LoadLedger
    lock: Lock = field(default_factory=Lock)
