"""One fault done to hand-offs under way, and what must hold afterwards."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.suites.transfer_faults import Fault, Handoff, Struck, few_slots, load, prefill
from tests.suites.transfer_part import WorkerLost
from tests.suites.transfer_scene import Place, TransferScene, differences

# A ticket's lease after the last sign of it, a peer's silence, and some for a busy machine.
LIMIT_SECONDS = 12.0
HANDLE_SECONDS = 12.0
POLL_SECONDS = 0.01
NUM_TOKENS = (2, 260)
NUM_TOKENS_OF_MANY = (2, 120)
MANY = 10
# Over which hand-offs begin, and the fault comes.
BEGIN_SECONDS, STRIKE_SECONDS = 0.3, 0.8
ANSWER_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Run:
    """`counts` are hand-offs by how they have ended; "lost" went with their receiver. `longest`
    of those that a living receiver has waited for, in seconds.
    """

    number: int
    fault: str
    place: str
    counts: Mapping[str, int]
    longest_seconds: float
    problems: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {how}" for how, count in sorted(self.counts.items()))
        where = f"run {self.number:>3}, {self.fault} ({self.place})"
        return f"{where}: {counts}; longest {self.longest_seconds:.1f} s"


@dataclass(eq=False)
class Watch:
    """What workers have said of the hand-offs of one run."""

    ended: dict[tuple[str, int], str] = field(default_factory=dict)
    freed: Counter[int] = field(default_factory=Counter)
    longest_seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    def look(self, scene: TransferScene) -> None:
        for role, part in scene.parts.items():
            for event in part.take_events():
                if event["event"] == "freed":
                    self.freed[event["number"]] += 1
                elif event["event"] == "ended":
                    self._ended(role, event)

    def _ended(self, role: str, event: Mapping[str, object]) -> None:
        number, how = event["number"], event["how"]
        assert isinstance(number, int)
        if (role, number) in self.ended:
            self.problems.append(f"hand-off {number} has ended twice at {role}")
        if not event["is_right"]:
            self.problems.append(f"hand-off {number} is {how} with wrong bytes at {role}")
        self.ended[role, number] = str(how)
        seconds = event["seconds"]
        assert isinstance(seconds, float)
        self.longest_seconds = max(self.longest_seconds, seconds)


class Experiment:
    """Workers, and what they have open when idle."""

    def __init__(self, scene: TransferScene) -> None:
        self._scene = scene
        self._number = 0
        self._few_slots: int | None = None
        self._failures: dict[str, dict[str, int]] = {}
        self.warm_up()
        self._baseline = scene.handles()

    def warm_up(self) -> None:
        """Every connection that there will be. Raises WorkerLost."""
        for _ in range(2):
            for receiver in ("decode", "other"):
                if problem := self._hand_over_one(receiver):
                    raise WorkerLost(f"without any fault: {problem}")

    def run(self, number: int, fault: Fault, dice: random.Random) -> Run:
        """Raises WorkerLost if a worker ends that nobody has ended."""
        self._shape(fault.few_slots)
        handoffs, watch = self._new_handoffs(fault, dice), Watch()
        lost = self._strike(fault, handoffs, dice, watch)
        problems = list(self._unended(handoffs, lost, watch))
        for part in self._scene.parts.values():
            part.tell("tamper", how=None, seed=0)
        problems += [*watch.problems, *self._held()]
        problems += self._following()
        problems += self._left()
        counts = Counter(watch.ended.values())
        counts["lost"] += len(lost)
        if fault.is_harmless and set(+counts) != {"completed"}:
            problems.append(f"harmless, but {dict(counts)}")
        return Run(
            number,
            fault.name,
            self._scene.place.name,
            +counts,
            watch.longest_seconds,
            tuple(problems),
        )

    def _strike(
        self, fault: Fault, handoffs: list[Handoff], dice: random.Random, watch: Watch
    ) -> set[Handoff]:
        """Begins all hand-offs, demands before or after their prompts, and lets the fault happen
        meanwhile. Returns those whose receiver is gone.
        """
        scene = self._scene
        begun: set[Handoff] = set()
        struck = Struck()
        lost: set[Handoff] = set()
        steps = [] if fault.begins_them else beginnings(handoffs, dice)
        steps.append((dice.uniform(0, 0 if fault.begins_them else STRIKE_SECONDS), None, None))
        started_at = time.monotonic()
        for moment, begin, handoff in sorted(steps, key=lambda step: step[0]):
            time.sleep(max(0.0, started_at + moment - time.monotonic()))
            if begin and handoff:
                begin(scene, handoff)
                begun |= {handoff} if begin is load else set()
                continue
            watch.look(scene)
            struck = fault.act(scene, list(handoffs), dice)
            if "decode" in struck.replaced:
                lost = {each for each in begun if ("decode", each.number) not in watch.ended}
        handoffs += struck.shown_again
        return lost

    def _unended(
        self, handoffs: Sequence[Handoff], lost: set[Handoff], watch: Watch
    ) -> Iterator[str]:
        """Waits until everything has ended, no longer than it may take."""
        waited = {(each.receiver, each.number) for each in handoffs if each not in lost}
        self._wait(lambda: waited <= watch.ended.keys(), LIMIT_SECONDS, watch)
        for role, number in sorted(waited - watch.ended.keys()):
            yield f"hand-off {number} has not ended at {role} after {LIMIT_SECONDS:.0f} s"
        if waited - watch.ended.keys():
            yield self._stacks()
        if watch.longest_seconds > LIMIT_SECONDS:
            yield f"a hand-off took {watch.longest_seconds:.1f} s"

    def _held(self) -> Iterator[str]:
        """Asks until nothing is held any more, no longer than a lease lasts."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while held := list(self._ask_what_is_held()):
            if time.monotonic() > deadline or any("held" not in each for each in held):
                yield from held
                return
            time.sleep(10 * POLL_SECONDS)

    def _ask_what_is_held(self) -> Iterator[str]:
        for role, part in self._scene.parts.items():
            part.tell("check")
            checked = part.hear("checked", ANSWER_SECONDS)
            yield from (f"{role}: {problem}" for problem in checked["problems"])
            self._failures[role] = checked["failures"]
            if held := {what: count for what, count in checked["held"].items() if count}:
                yield f"{role}: still held {held}"

    def _following(self) -> Iterator[str]:
        """A hand-off to each decode worker after all is over is completed.

        Over a link that was cut TCP may be silent for longer than a peer may, after the link
        has healed; then the first that notices fails, and a later one has a new link.
        """
        num_tries = 3 if self._scene.place is Place.LINK else 1
        for receiver in ("decode", "other"):
            if problem := self._hand_over_one(receiver, num_tries):
                before = dict(self._failures)
                yield f"afterwards: {problem}"
                yield from self._held()
                yield f"failures before {before}, after {self._failures}"
        yield from self._held()

    def _hand_over_one(self, receiver: str, num_tries: int = 1) -> str | None:
        """Why none of so many was completed."""
        (handoff,) = self._numbered([NUM_TOKENS[1]], receiver)
        watch = Watch()
        load(self._scene, handoff)
        prefill(self._scene, handoff)
        key = (receiver, handoff.number)
        self._wait(lambda: key in watch.ended, LIMIT_SECONDS, watch)
        how = watch.ended.get(key)
        if how == "completed":
            return None
        if how and num_tries > 1:
            return self._hand_over_one(receiver, num_tries - 1)
        return f"a hand-off to {receiver} is {how}" if how else self._stacks()

    def _stacks(self) -> str:
        parts = self._scene.parts.items()
        return "\n".join(f"what {role} is doing:\n{part.stacks()}" for role, part in parts)

    def _left(self) -> Iterator[str]:
        """What is open that was not before, when it has had time to close."""
        deadline = time.monotonic() + HANDLE_SECONDS
        while left := list(self._extra()):
            if time.monotonic() > deadline:
                yield from left
                return
            time.sleep(10 * POLL_SECONDS)

    def _extra(self) -> Iterator[str]:
        yield from differences(self._scene.handles(), self._baseline)
        if segments := self._scene.left_segments():
            yield f"{len(segments)} segments of shared memory that nobody uses"

    def _wait(self, holds: Callable[[], bool], patience_seconds: float, watch: Watch) -> None:
        deadline = time.monotonic() + patience_seconds
        watch.look(self._scene)
        while not holds() and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            watch.look(self._scene)

    def _shape(self, number: int | None) -> None:
        """Workers with so many slots in each direction, or with the usual number."""
        if number == self._few_slots:
            return
        self._few_slots = number
        for role, shape in self._scene.usual_shapes.items():
            self._scene.restart(role, few_slots(shape, number) if number else shape)
        self.warm_up()

    def _new_handoffs(self, fault: Fault, dice: random.Random) -> list[Handoff]:
        lengths = NUM_TOKENS if fault.num_handoffs < MANY else NUM_TOKENS_OF_MANY
        return self._numbered([dice.randint(*lengths) for _ in range(fault.num_handoffs)])

    def _numbered(self, lengths: Sequence[int], receiver: str = "decode") -> list[Handoff]:
        first, self._number = self._number + 1, self._number + len(lengths)
        return [Handoff(number, length, receiver) for number, length in enumerate(lengths, first)]


Beginning = tuple[float, Callable[[TransferScene, Handoff], None] | None, Handoff | None]


def beginnings(handoffs: Sequence[Handoff], dice: random.Random) -> list[Beginning]:
    """When each prompt is given to the one side, and asked for by the other."""
    return [
        (dice.uniform(0, BEGIN_SECONDS), begin, handoff)
        for handoff in handoffs
        for begin in (prefill, load)
    ]
