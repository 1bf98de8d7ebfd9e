"""A Mooncake trace under four routing policies, one fleet after the other.

    python -m loadtest.policies TRACE [flags of loadtest.replay]

Eight prefill and eight decode workers are simulated, eight times as fast as they would be. Lengths
of the trace are divided by 16, and caches are as small in proportion: 25,000 blocks of 8 tokens in
all the prefill workers together stand for 25,000 blocks of 128.

The policies: baton (the default), prefix only, least loaded, round robin. One table tells TTFT,
ITL, goodput, hit rate and load spread of each, with ratios to the first. A trace of an hour takes
some ten minutes. Traces in this format: https://github.com/kvcache-ai/Mooncake
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from loadtest.replay.__main__ import main as replay

SPEED = 8
# Of a worker, in seconds and bytes a second of simulated time.
PROFILE = {
    "step_seconds": 0.006,
    "prefill_token_seconds": 0.0016,
    "attention_seconds": 2.5e-7,
    "decode_seconds": 5e-5,
    "context_token_seconds": 6.4e-7,
    "bandwidth": 2.8e8,
    "latency_seconds": 5e-4,
}
LIMITS = "--block-size 8 --kv-blocks 3125 --max-num-batched-tokens 640"
POLICIES = {
    "baton": "default",
    "prefix only": "prefix",
    "least loaded": "least-loaded",
    "round robin": "round-robin",
}


def main(words: Sequence[str] | None = None) -> int:
    given = sys.argv[1:] if words is None else list(words)
    if not given or given[0].startswith("-"):
        sys.stdout.write(__doc__ or "")
        return 0 if given in (["-h"], ["--help"]) else 2
    with tempfile.TemporaryDirectory() as folder:
        profile = Path(folder) / "profile.json"
        profile.write_text(json.dumps(PROFILE))
        return replay([*given, *flags(profile)])


def flags(profile: Path) -> list[str]:
    fleet = f"--prefill 8 --decode 8 --sim-speed {SPEED} --disaggregation always"
    fleet += f" --sim-profile {profile} --sim-args='{LIMITS}'"
    words = ["--scale", "16", "--speed", str(SPEED), "--slo-ttft", "1", "--slo-itl", "0.1"]
    words += ["--fleet-args", fleet]
    for name, policy in POLICIES.items():
        words += ["--compare", f"{name}=--routing {policy}"]
    return words


if __name__ == "__main__":
    sys.exit(main())
