"""What can go wrong between two KV caches.

TransferError
├── TransportUnavailable   no usable transport on this machine
├── LayoutUnsupported      this engine's KV cache cannot be addressed by token
├── MalformedMessage       bytes from a peer that are not a message of ours
├── DemandRefused          a receiver asks for what it does not get; has a cause
├── StagingTooSmall        not even one block finds room in it
└── StagingExhausted       a slot was asked for and none is free
"""

from __future__ import annotations

from kvtransfer.causes import Cause


class TransferError(Exception):
    """Base of this package's errors."""


class TransportUnavailable(TransferError):
    """No usable transport; the message names what is missing and what to install."""


class LayoutUnsupported(TransferError):
    """The engine's KV cache has a form that cannot be moved; the message names it."""


class MalformedMessage(TransferError):
    """Bytes from a peer do not decode, or claim more than they carry."""


class DemandRefused(TransferError):
    """A demand is not met. The message is for the receiver's log."""

    def __init__(self, cause: Cause, reason: str) -> None:
        super().__init__(reason)
        self.cause = cause


class StagingTooSmall(TransferError):
    """Staging of `num_bytes`, where `needed_bytes` are the least."""

    def __init__(self, num_bytes: int, needed_bytes: int) -> None:
        super().__init__(
            f"{_mib(num_bytes)} MiB of staging for a rank do not hold a block each way: "
            f"--staging-mib {_mib(needed_bytes)} is the least here"
        )


class StagingExhausted(TransferError):
    """No staging slot is free. Callers ask `num_free` first, so this is a defect."""


def _mib(num_bytes: int) -> int:
    return -(-num_bytes // 2**20)
