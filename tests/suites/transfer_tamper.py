"""What may happen to messages on their way out of a worker."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from kvtransfer.segment import HEADER_BYTES
from kvtransfer.staging import Slot
from kvtransfer.transport import Kind

SHARE = 0.15
MAX_REMEMBERED = 64

Change = Callable[[Slot, random.Random], Sequence[Slot]]


def flip(message: Slot, first: int, end: int, dice: random.Random) -> Sequence[Slot]:
    changed = message.copy()
    changed[dice.randrange(first, end)] ^= 1 << dice.randrange(8)
    return [changed]


CHANGES: Mapping[str, Change] = {
    "payload": lambda message, dice: flip(message, HEADER_BYTES, len(message), dice),
    "header": lambda message, dice: flip(message, 0, HEADER_BYTES, dice),
    "truncated": lambda message, dice: [message[: dice.randrange(len(message))].copy()],
    "repeated": lambda message, dice: [message, message.copy()],
    "lost": lambda message, dice: [],
}


class Tampering:
    """Lets everything pass until it is told otherwise: by a name of CHANGES, or "replay".

    Some segments are then changed; in a replay every control message is followed by an
    earlier one, wherever that went.
    """

    def __init__(self) -> None:
        self.how: str | None = None
        self.dice = random.Random(0)
        self._remembered: list[Slot] = []

    def __call__(self, kind: Kind, message: Slot) -> Sequence[Slot]:
        if kind is Kind.CONTROL:
            return self._control(message)
        change = CHANGES.get(self.how or "")
        return change(message, self.dice) if change and self.dice.random() < SHARE else [message]

    def _control(self, message: Slot) -> Sequence[Slot]:
        self._remembered = [*self._remembered[-MAX_REMEMBERED:], message.copy()]
        if self.how != "replay":
            return [message]
        return [message, self.dice.choice(self._remembered).copy()]
