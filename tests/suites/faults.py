"""What can go wrong between two workers. Each takes its moments and lengths from dice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.suites.network import Link
from tests.suites.scene import START_SECONDS, Scene, halt, halt_engine, kill
from tests.system.exchange import calling
from tests.system.prompts import Prompt, random_ids
from tests.system.waiting import wait_until

# Shorter and longer than a link may be silent before it is given up.
SHORT_SECONDS, LONG_SECONDS = (0.3, 4.0), (11.0, 15.0)
LONG_SHARE = 0.4
TRICKLE_BITS_PER_SECOND = 100_000.0
LEAVER_TOKENS = 900
LEAVER_SECONDS = 4.0

Act = Callable[[Scene, random.Random], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`act` happens while `num_requests` are under way, and returns when what can be mended is.

    `flags`: of workers by role, for as long as it lasts. `spoils`: KV that comes must be
    refused, and computed again. `allows_errors`: it hits the worker that a client's tokens come
    from, so that a request may end with an error; else each is answered.
    """

    name: str
    act: Act
    needs_link: bool = False
    flags: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    num_requests: int = 3
    spoils: bool = False
    allows_errors: bool = False


def killed(role: str) -> Act:
    def act(scene: Scene, dice: random.Random) -> None:
        kill(scene, role, only_engine=dice.random() < 0.5)

    return act


def stopped(role: str) -> Act:
    def act(scene: Scene, dice: random.Random) -> None:
        halt(scene, role, is_halted=True)
        try:
            hold(dice)
        finally:
            halt(scene, role, is_halted=False)

    return act


def source_restarted(scene: Scene, dice: random.Random) -> None:
    """The decode engine asks for KV when the prefill worker is another incarnation; until then it
    is stopped, and what it decodes with it.
    """
    before = scene.gateway.report().prefill.incarnation
    halt_engine(scene, "decode", is_halted=True)
    try:
        kill(scene, "prefill")
        wait_until(lambda: scene.pid("prefill") is None, START_SECONDS)
        scene.revive()
        wait_until(lambda: has_another(scene, before), START_SECONDS)
    finally:
        halt_engine(scene, "decode", is_halted=False)


def has_another(scene: Scene, incarnation: str) -> bool:
    """A prefill worker of another incarnation is ready."""
    return any(
        each.role == "prefill" and each.state == "ready" and each.incarnation != incarnation
        for each in scene.gateway.report().workers
    )


def link_cut(scene: Scene, dice: random.Random) -> None:
    with link_of(scene).broken():
        hold(dice)


def link_slowed(scene: Scene, dice: random.Random) -> None:
    with link_of(scene).limited(TRICKLE_BITS_PER_SECOND):
        hold(dice)


def client_gone(scene: Scene, dice: random.Random) -> None:
    """One more client, who hangs up."""
    name = f"leaver {dice.random()}"
    prompt = Prompt(name, random_ids(name, LEAVER_TOKENS), max_tokens=100)
    body = scene.gateway.body(prompt, stream=dice.random() < 0.5)
    with calling(scene.gateway.completions, body):
        time.sleep(dice.uniform(0, LEAVER_SECONDS))


def nothing(scene: Scene, dice: random.Random) -> None:
    """The workers' flags are the fault."""


def hold(dice: random.Random) -> None:
    time.sleep(dice.uniform(*(LONG_SECONDS if dice.random() < LONG_SHARE else SHORT_SECONDS)))


def link_of(scene: Scene) -> Link:
    assert scene.link
    return scene.link


FAULTS = (
    Fault("prefill killed", killed("prefill")),
    Fault("prefill stopped, then resumed", stopped("prefill")),
    Fault("client gone", client_gone),
    Fault("decode killed", killed("decode"), allows_errors=True),
    Fault("decode stopped, then resumed", stopped("decode"), allows_errors=True),
    Fault("ticket of a restarted worker", source_restarted, allows_errors=True),
    Fault("link cut, then healed", link_cut, needs_link=True),
    Fault("rate dropped to a trickle", link_slowed, needs_link=True),
    Fault(
        *("segments corrupted", nothing, True),
        flags={"prefill": {"kv-fault": "corrupt"}},
        spoils=True,
    ),
    Fault(
        *("staging exhausted", nothing, True),
        flags={"prefill": {"staging-mib": 1}, "decode": {"staging-mib": 1}},
        num_requests=12,
    ),
)
