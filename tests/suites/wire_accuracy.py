"""What a smaller wire format costs in accuracy, and what it saves: `make wire`.

Two engines with the default model in bf16. Each prompt is handed over and decoded greedily, and
the same engine computes it alone; the table compares the two.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tokenizers import Tokenizer

from kvtransfer.wire import WireFormat
from tests.engines.host import Generated
from tests.engines.pair import Engine, Hosts, hand_over

ROOT = Path(__file__).parents[2]
MODEL = ROOT / ".baton/models/SmolLM2-135M-Instruct"
TEXTS = ("README.md", "docs/architecture.md", "docs/dependencies.md", "docs/measurements.md")
LENGTHS = (100, 250, 500, 1000)
NUM_LOGITS = 20
NUM_TOKENS = 64
CAPTION = (
    f"max logit diff: the largest at the first token, over the best {NUM_LOGITS} of either side; "
    "a lower bound,\nfor a token that only one side has there counts from the other's last\n"
)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One prompt, handed over and computed in one place."""

    tokens_equal: int
    num_tokens: int
    first_equal: bool
    logit_difference: float

    @classmethod
    def of(cls, moved: Generated, alone: Generated) -> Comparison:
        pairs = zip(moved.tokens, alone.tokens, strict=True)
        ours, theirs = moved.logprobs[0], alone.logprobs[0]
        return cls(
            sum(a == b for a, b in pairs),
            len(alone.tokens),
            moved.tokens[0] == alone.tokens[0],
            max_difference(ours, theirs),
        )


def max_difference(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float:
    """Of two lists of the best logits by token: the largest difference of a token's that is
    certain. One that a list lacks is no larger there than that list's last.
    """
    last_of_ours, last_of_theirs = min(ours.values()), min(theirs.values())
    both = (abs(ours[token] - theirs[token]) for token in ours.keys() & theirs.keys())
    only_ours = (ours[token] - last_of_theirs for token in ours.keys() - theirs.keys())
    only_theirs = (theirs[token] - last_of_ours for token in theirs.keys() - ours.keys())
    return max(0.0, *both, *only_ours, *only_theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=24)
    parser.add_argument("--wire", nargs="*", type=WireFormat, default=list(WireFormat))
    options = parser.parse_args()
    if not MODEL.exists():
        sys.exit("error: the default model is not there: run `baton model fetch`")
    prompts = list(make_prompts(options.prompts))
    sys.stdout.write(CAPTION)
    show("wire", "prompts equal", "tokens equal", "first equal", "max logit diff", "bytes/token")
    with TemporaryDirectory() as folder:
        for wire in options.wire:
            measure(Hosts(Path(folder)), wire, prompts)


def measure(hosts: Hosts, wire: WireFormat, prompts: Sequence[Sequence[int]]) -> None:
    settings: dict[str, Any] = {
        "transfer": {"wire": wire.value},
        "dtype": "bfloat16",
        "logprobs_mode": "raw_logits",
        "max_num_batched_tokens": 512,
    }
    with (
        hosts.start(MODEL, cores=(0,), **settings) as prefill,
        hosts.start(MODEL, cores=(1,), **settings) as decode,
    ):
        found = [compare(prefill, decode, prompt) for prompt in prompts]
        moved, layout = decode.wait_until_free(), decode.layout
    num_tokens = sum(each.num_tokens for each in found)
    size = sum(layout.num_blocks(len(prompt) - 1) for prompt in prompts)
    show(
        wire.value,
        f"{sum(each.tokens_equal == each.num_tokens for each in found)} of {len(found)}",
        f"{sum(each.tokens_equal for each in found) / num_tokens:.1%}",
        f"{sum(each.first_equal for each in found)} of {len(found)}",
        f"{max(each.logit_difference for each in found):.3f}",
        f"{moved.received_bytes / size / layout.block_size:,.0f}",
    )
    if moved.loads_failed:
        sys.exit(f"error: {moved.loads_failed} hand-offs were recomputed: {moved.failures}")


def compare(prefill: Engine, decode: Engine, prompt: Sequence[int]) -> Comparison:
    alone = decode.compute(prompt, NUM_TOKENS, num_logprobs=NUM_LOGITS)
    moved = hand_over(prefill, decode, prompt, NUM_TOKENS, num_logprobs=NUM_LOGITS)
    return Comparison.of(moved, alone)


def make_prompts(number: int) -> Iterator[list[int]]:
    """Stretches of our own documents."""
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    ids = tokenizer.encode("\n".join((ROOT / name).read_text() for name in TEXTS)).ids
    for index in range(number):
        length = LENGTHS[index % len(LENGTHS)]
        first = index * (len(ids) - length) // number
        yield ids[first : first + length]


def show(*cells: str) -> None:
    sys.stdout.write("".join(f"{cell:>16}" for cell in cells) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
