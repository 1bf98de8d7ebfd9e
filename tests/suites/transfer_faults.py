"""What can go wrong between workers without engines. Each takes its moments from dice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tests.suites.network import Link
from tests.suites.transfer_engine import ticket_of
from tests.suites.transfer_scene import CONFIG, SLOT_BYTES, Place, Shape, TransferScene

# Shorter and longer than a peer may be silent.
SHORT_SECONDS, LONG_SECONDS = (0.2, 0.8), (1.2, 3.0)
TRICKLE_BITS_PER_SECOND = 400_000.0


@dataclass(frozen=True, slots=True)
class Handoff:
    """One prompt, for one of the decode workers."""

    number: int
    num_tokens: int
    receiver: str = "decode"


@dataclass(frozen=True, slots=True)
class Struck:
    """Whom the fault has hit: hand-offs that another receiver shows the ticket of, and roles
    whose process is another one now.
    """

    shown_again: Sequence[Handoff] = ()
    replaced: Sequence[str] = ()


Act = Callable[[TransferScene, Sequence[Handoff], random.Random], Struck]


@dataclass(frozen=True, slots=True)
class Fault:
    """`act` happens while hand-offs are under way, and returns when what can be mended is.

    `few_slots`: the workers have so many in each direction. `is_harmless`: everything must be
    completed all the same. `begins_them`: it is `act` that begins the hand-offs.
    """

    name: str
    act: Act
    places: tuple[Place, ...] = (Place.HOST, Place.TCP)
    num_handoffs: int = 5
    few_slots: int | None = None
    is_harmless: bool = False
    begins_them: bool = False


def killed(role: str) -> Act:
    def act(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
        scene.parts[role].kill()
        scene.restart(role)
        return Struck(replaced=[role])

    return act


def stopped(role: str) -> Act:
    def act(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
        part = scene.parts[role]
        part.halt(is_halted=True)
        try:
            hold(dice)
        finally:
            part.halt(is_halted=False)
        return Struck()

    return act


def tampered(how: str, *roles: str) -> Act:
    """Until all hand-offs have ended."""

    def act(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
        for role in roles:
            scene.parts[role].tell("tamper", how=how, seed=dice.randrange(1 << 30))
        return Struck()

    return act


def cancelled(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
    for handoff in dice.sample(handoffs, 3):
        scene.parts[handoff.receiver].tell("cancel", number=handoff.number)
        time.sleep(dice.uniform(0, 0.1))
    return Struck()


def given_up(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
    """The prefill engine aborts one, the gateway revokes one there and one here."""
    aborted, revoked_there, revoked_here = dice.sample(handoffs, 3)
    scene.prefill.tell("abort", number=aborted.number)
    scene.prefill.tell("revoke", ticket=ticket_of(revoked_there.number).hex())
    scene.decode.tell("revoke", ticket=ticket_of(revoked_here.number).hex())
    return Struck()


def shown_by_another(
    scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random
) -> Struck:
    """The other decode worker shows the tickets too."""
    again = [replace(each, receiver="other") for each in dice.sample(handoffs, 3)]
    for handoff in again:
        load(scene, handoff)
        time.sleep(dice.uniform(0, 0.05))
    return Struck(shown_again=again)


def source_restarted(
    scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random
) -> Struck:
    """Tickets of a worker that is gone are shown, at its old address and at its successor's."""
    old = scene.prefill.address
    for handoff in handoffs:
        prefill(scene, handoff)
    time.sleep(dice.uniform(0, 0.1))
    scene.prefill.kill()
    scene.restart("prefill")
    for handoff in handoffs:
        load(scene, handoff, old if dice.random() < 0.5 else None)
    return Struck(replaced=["prefill"])


def link_cut(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
    with link_of(scene).broken():
        hold(dice)
    return Struck()


def link_slowed(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
    with link_of(scene).limited(TRICKLE_BITS_PER_SECOND):
        hold(dice)
    return Struck()


def nothing(scene: TransferScene, handoffs: Sequence[Handoff], dice: random.Random) -> Struck:
    return Struck()


def prefill(scene: TransferScene, handoff: Handoff) -> None:
    scene.prefill.tell("prefill", number=handoff.number, num_tokens=handoff.num_tokens)


def load(scene: TransferScene, handoff: Handoff, source: str | None = None) -> None:
    scene.parts[handoff.receiver].tell(
        "load",
        number=handoff.number,
        num_tokens=handoff.num_tokens,
        source=source or scene.prefill.address,
    )


def hold(dice: random.Random) -> None:
    time.sleep(dice.uniform(*dice.choice((SHORT_SECONDS, LONG_SECONDS))))


def link_of(scene: TransferScene) -> Link:
    assert scene.link
    return scene.link


def few_slots(shape: Shape, number: int) -> Shape:
    """With so many in each direction."""
    return replace(shape, config=replace(CONFIG, staging_bytes=2 * number * SLOT_BYTES))


LINK = (Place.LINK,)
FAULTS = (
    Fault("prefill killed", killed("prefill")),
    Fault("decode killed", killed("decode")),
    Fault("prefill stopped, then resumed", stopped("prefill")),
    Fault("decode stopped, then resumed", stopped("decode")),
    Fault("payload damaged", tampered("payload", "prefill")),
    Fault("header damaged", tampered("header", "prefill")),
    Fault("segment truncated", tampered("truncated", "prefill")),
    Fault("segment repeated", tampered("repeated", "prefill")),
    Fault("control messages replayed", tampered("replay", "prefill", "decode"), is_harmless=True),
    Fault("ticket shown by another worker", shown_by_another),
    Fault("ticket of a restarted worker", source_restarted, begins_them=True),
    Fault("receiver cancels", cancelled),
    Fault("aborted and revoked", given_up),
    Fault("staging exhausted", nothing, num_handoffs=16, few_slots=1, is_harmless=True),
    Fault("two slots, decode stopped", stopped("decode"), num_handoffs=16, few_slots=2),
    Fault("link cut, then healed", link_cut, LINK),
    Fault("rate dropped to a trickle", link_slowed, LINK),
    Fault("link cut, few slots", link_cut, LINK, num_handoffs=12, few_slots=2),
)
