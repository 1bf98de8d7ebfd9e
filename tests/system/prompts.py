"""What the models are asked in these tests: token ids from a seed, and conversations."""

from __future__ import annotations

import random
from dataclasses import dataclass

BLOCK_SIZE = 128
# What a prefill step takes at most, on a CPU.
CHUNK_TOKENS = 512
MAX_MODEL_LEN = 8192
# Ordinary tokens of the default model's vocabulary; the first ones are special.
TOKEN_IDS = range(100, 40_000)

# One token, shorter than a block, exact multiples of the block and of the chunk, one less, one
# more.
LENGTHS = (
    *(1, 2, 5, 64, 127, 128, 129, 200, 255, 256, 257, 300, 383, 384, 385),
    *(511, 512, 513, 640, 900, 1024, 1025),
)  # fmt: skip
# Many chunks.
LONG_LENGTHS = (2048, 6000)
AT_ONCE_LENGTHS = (129, 200, 256, 300, 385, 512, 640, 900)
SHARED_TOKENS = 5 * BLOCK_SIZE


@dataclass(frozen=True, slots=True)
class Prompt:
    """A completion to ask for: `ids` are the prompt's tokens. What is cached under one `salt`
    is not found under another.
    """

    name: str
    ids: tuple[int, ...]
    max_tokens: int = 12
    salt: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What the user says, turn by turn; the answers are the model's."""

    name: str
    turns: tuple[str, ...]
    max_tokens: int


def random_ids(name: str, length: int) -> tuple[int, ...]:
    """The same for the same name."""
    return tuple(random.Random(name).choices(TOKEN_IDS, k=length))


def of_length(length: int) -> Prompt:
    return Prompt(f"length-{length}", random_ids(f"length-{length}", length))


def long(length: int) -> Prompt:
    """Each begins like the longer ones, so that the plain engine computes them once; the fleet
    is given a salt for each, and must not reuse anything.
    """
    ids = random_ids("long", max(LONG_LENGTHS))[:length]
    return Prompt(f"length-{length}", ids, 8, salt=f"length-{length}")


def sharing(name: str, length: int) -> Prompt:
    """A prompt whose first SHARED_TOKENS are those of every other one from here."""
    ids = random_ids("shared", SHARED_TOKENS) + random_ids(f"shared-{name}", length)
    return Prompt(f"shared-{name}", ids)


def story(num_sentences: int) -> str:
    """Plain English."""
    who = ("a sailor", "the baker", "my aunt", "an old clerk", "the twins", "a tall nurse")
    did = ("lost", "painted", "bought", "mended", "hid", "sold", "found")
    what = ("a blue door", "two clocks", "the boat", "a map", "seven keys", "the red lamp")
    where = ("in Lisbon", "by the river", "under the bridge", "at noon", "near the mill")
    pick = random.Random("story").choice
    sentences = [
        f"{pick(who)} {pick(did)} {pick(what)} {pick(where)}" for _ in range(num_sentences)
    ]
    return ". ".join(sentences) + "."


MATRIX = (*map(of_length, LENGTHS), *map(long, LONG_LENGTHS))
AT_ONCE = tuple(map(of_length, AT_ONCE_LENGTHS))
SHARED = (sharing("a", 70), sharing("b", 200))
SHARED_AT_ONCE = tuple(sharing(f"at-once-{i}", 40 + 30 * i) for i in range(4))
LOST = Prompt("lost", random_ids("lost", 700))
CHAT = Conversation(
    "chat",
    (
        f"Read this story.\n{story(60)}\nWho lost the boat?",
        "And what did the baker do? Answer in one sentence.",
        "Thank you. Name one city.",
    ),
    40,
)
PROMPTS = (*MATRIX, *SHARED, *SHARED_AT_ONCE, LOST)
CONVERSATIONS = (CHAT,)
