"""Conversations, and what each of their turns may cost."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from baton.table import render
from tests.system.layout import common_prefix

SYSTEM_SENTENCES = 44
USER_SENTENCES = 6
WHO = ("a sailor", "the baker", "my aunt", "an old clerk", "the twins", "a tall nurse")
DID = ("lost", "painted", "bought", "mended", "hid", "sold", "found", "wanted", "drew")
WHAT = ("a blue door", "two clocks", "the boat", "a map", "seven keys", "the red lamp", "a hat")
WHERE = ("in Lisbon", "by the river", "under the bridge", "at noon", "near the mill", "in May")


@dataclass(frozen=True, slots=True)
class Script:
    """What a client says: the system prompt, and the user's turns."""

    name: str
    system: str
    turns: tuple[str, ...]

    @classmethod
    def make(cls, name: str, seed: int, num_turns: int) -> Script:
        """Plain English of a few words, so that no two conversations begin alike."""
        dice = random.Random(f"{seed} {name}")
        system = f"You are {name}. {prose(dice, SYSTEM_SENTENCES)}"
        turns = (f"{prose(dice, USER_SENTENCES)} And then?" for _ in range(num_turns))
        return cls(name, system, tuple(turns))


def prose(dice: random.Random, num_sentences: int) -> str:
    words = (WHO, DID, WHAT, WHERE)
    return " ".join(
        " ".join(map(dice.choice, words)).capitalize() + "." for _ in range(num_sentences)
    )


@dataclass(frozen=True, slots=True)
class Turn:
    """One request of a conversation. `known`: what its prompt has in common with the one before;
    `route`: what the gateway says of where it went.
    """

    conversation: str
    number: int
    gateway: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    known: int
    route: str

    @classmethod
    def after(
        cls,
        before: Turn | None,
        conversation: str,
        gateway: str,
        prompt_ids: tuple[int, ...],
        ids: tuple[int, ...],
        route: str,
    ) -> Turn:
        known = common_prefix(before.prompt_ids, prompt_ids) if before else 0
        number = before.number + 1 if before else 1
        return cls(conversation, number, gateway, prompt_ids, ids, known, route)

    @property
    def num_new(self) -> int:
        """The answer before and what the user said then."""
        return len(self.prompt_ids) - self.known

    def allowed(self, block_size: int) -> int:
        """The new part, from the beginning of the block that it begins in."""
        return len(self.prompt_ids) - self.known // block_size * block_size

    def planned(self) -> int:
        """Tokens that the gateway took to be cached nowhere where it sent them."""
        fields = dict(part.split("=") for part in self.route.split("; ") if "=" in part)
        return int(fields["uncached"])

    def path(self) -> str:
        """Who computed and who decoded it, in short."""
        fields = dict(part.split("=") for part in self.route.split("; ") if "=" in part)
        way, prefill, decode = (fields[name] for name in ("way", "prefill", "decode"))
        return f"{prefill} > {decode}" if way == "remote" else f"{decode} alone"


@dataclass(frozen=True, slots=True)
class Count:
    """What all workers computed for these turns, which were asked at once, or for one."""

    turns: tuple[Turn, ...]
    computed: Mapping[str, int]
    block_size: int

    @property
    def num_computed(self) -> int:
        return sum(self.computed.values())

    @property
    def num_allowed(self) -> int:
        return sum(turn.allowed(self.block_size) for turn in self.turns)

    def problems(self) -> Iterator[str]:
        if self.num_computed > self.num_allowed:
            yield (
                f"{self.name}: {self.num_computed} tokens were computed, "
                f"of {self.num_allowed} at most"
            )
        for turn in self.turns:
            if len(self.turns) > 1 and turn.planned() > turn.allowed(self.block_size):
                yield (
                    f"{turn.conversation}, turn {turn.number}: {turn.planned()} tokens were to be "
                    f"computed, of {turn.allowed(self.block_size)} at most"
                )

    @property
    def name(self) -> str:
        names = ", ".join(turn.conversation for turn in self.turns)
        return f"{names}, turn {self.turns[0].number}"

    def row(self) -> tuple[str, ...]:
        return (
            str(self.turns[0].number),
            " ".join(turn.conversation for turn in self.turns),
            " ".join(turn.gateway for turn in self.turns),
            str(sum(len(turn.prompt_ids) for turn in self.turns)),
            str(sum(turn.num_new for turn in self.turns)),
            str(self.num_computed),
            str(self.num_allowed),
            ", ".join(turn.path() for turn in self.turns),
        )


HEADING = ("turn", "conversation", "gateway", "prompt", "new", "computed", "at most", "where")


def table(counts: Sequence[Count]) -> str:
    """A line for each count, and their sums."""
    prompts = sum(len(turn.prompt_ids) for count in counts for turn in count.turns)
    new = sum(turn.num_new for count in counts for turn in count.turns)
    computed = sum(count.num_computed for count in counts)
    allowed = sum(count.num_allowed for count in counts)
    sums = ("all", "", "", str(prompts), str(new), str(computed), str(allowed), "")
    return "\n".join((*render(HEADING, [*(count.row() for count in counts), sums]), ""))
