"""TTFT over a slow link: KV streamed while the prompt is computed, or pulled afterwards.

    python -m tests.suites.slow_link [--rounds 3]

Prefill worker and decode worker live in network namespaces of their own. The link between
them is set so that a prompt's KV takes half as long as its prefill, and then as long. Needs
root. Fails if with streaming TTFT less a decode step is over 1.1 times the prefill that the
link without a limit has.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from baton.model import DEFAULT_MODEL, ensure_model, models_dir
from loadtest.endpoint import BadAnswer, Endpoint
from loadtest.hand_off import HandOff, measure
from tests.suites.bounds import TooLong, bounded
from tests.suites.link_study import NIXL, PULL, STREAMING, Row, Setting, Study
from tests.suites.logs import log_folder
from tests.suites.move_alone import move_seconds
from tests.suites.network import Link, NetworkMissing, joined_namespaces
from tests.suites.nixl_pair import NixlPair
from tests.suites.sample import Sample
from tests.suites.split_fleet import MODEL_NAME, SplitFleet

DTYPE = "bfloat16"
WARM_TOKENS = 300
# How long the KV takes, in prefill times.
RATIOS = (0.5, 1.0)
# Of what a link carries, what is not headers of Ethernet, IP and TCP.
PAYLOAD_SHARE = 0.9615
LIMIT = 1.10
MAX_MINUTES = 20.0
GATEWAYS: Mapping[str, Mapping[str, object]] = {
    STREAMING: {},
    PULL: {"dispatch": "prefill-first"},
}

Methods = Mapping[str, Callable[[], Sample]]


def main() -> int:
    options = parse()
    try:
        with bounded(MAX_MINUTES), joined_namespaces() as link:
            link.near.enter()
            study = run(options, link)
    except (NetworkMissing, BadAnswer, TooLong, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    study.save(options.json)
    holds = study.worst_streaming() <= LIMIT
    bound = f"{LIMIT - 1:.0%} of the prefill without limit"
    verdict = f"streaming stays within {bound}: {'yes' if holds else 'NO'}"
    sys.stdout.write(f"{study.show()}{verdict}\n")
    return 0 if holds else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.suites.slow_link", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=3, help="of each kind (default: 3)")
    parser.add_argument("--tokens", type=int, default=2048, help="of a prompt (default: 2048)")
    parser.add_argument("--nixl", default="", metavar="FOLDER", help="that holds the nixl package")
    parser.add_argument(
        "--json", type=Path, default=Path(".baton/slow-link.json"), help="where the figures go"
    )
    parser.add_argument("--logs", type=Path, help="a folder for logs that stays")
    return parser.parse_args()


def run(options: argparse.Namespace, link: Link) -> Study:
    model = ensure_model(DEFAULT_MODEL, models_dir(os.environ), tell)
    with log_folder(options.logs) as folder:
        fleet = SplitFleet(folder / "fleet", model, link, DTYPE)
        with closing(fleet):
            study = study_fleet(fleet, link, options.tokens, options.rounds)
        if not options.nixl and not find_spec("nixl"):
            tell("no NixlConnector: nixl is not installed (make setup NIXL=1)")
            return study
        pair = NixlPair(folder / "nixl", model, link, DTYPE, options.nixl)
        with closing(pair):
            return replace(study, rows=(*study.rows, *study_nixl(pair, link, study, options)))


def study_fleet(fleet: SplitFleet, link: Link, num_tokens: int, rounds: int) -> Study:
    tell("starting a fleet, its prefill worker at the far end of a link")
    fleet.start()
    endpoints = {name: fleet.start_gateway(name, more).url for name, more in GATEWAYS.items()}

    def hand_off(url: str) -> HandOff:
        return measure(Endpoint(url), MODEL_NAME, num_tokens)

    warm = [hand_off(url) for url in endpoints.values()]
    moved_bytes = warm[0].moved_bytes
    methods = {name: lambda url=url: Sample.of(hand_off(url)) for name, url in endpoints.items()}
    free = take(methods, link, Setting(None, move_seconds(link, moved_bytes)), rounds)
    prefill_seconds = median(each.prefill_seconds for row in free for each in row.samples)
    seconds = [ratio * prefill_seconds for ratio in RATIOS]
    settings = [choose_rate(link, moved_bytes, each) for each in seconds]
    limited = [row for setting in settings for row in take(methods, link, setting, rounds)]
    return Study(num_tokens, moved_bytes, (*free, *limited))


def study_nixl(pair: NixlPair, link: Link, study: Study, options: argparse.Namespace) -> list[Row]:
    """With the same rates."""
    tell("starting vLLM's API servers with NixlConnector")
    link.set_rate(None)
    pair.wait()
    pair.measure(WARM_TOKENS)
    methods = {NIXL: lambda: pair.measure(study.num_tokens)}
    settings = dict.fromkeys(row.setting for row in study.rows)
    return [row for each in settings for row in take(methods, link, each, options.rounds)]


def choose_rate(link: Link, moved_bytes: int, seconds: float) -> Setting:
    """At which the bytes take so long; measured, and left set."""
    bits_per_second = moved_bytes * 8 / seconds / PAYLOAD_SHARE
    link.set_rate(bits_per_second)
    return Setting(bits_per_second, move_seconds(link, moved_bytes))


def take(methods: Methods, link: Link, setting: Setting, rounds: int) -> list[Row]:
    """Method by method in each round, so that a slow minute strikes all alike."""
    link.set_rate(setting.bits_per_second)
    samples: dict[str, list[Sample]] = {name: [] for name in methods}
    for number in range(1, rounds + 1):
        for name, method in methods.items():
            tell(f"{setting}, round {number} of {rounds}: {name}")
            samples[name].append(method())
    return [Row(setting, name, tuple(found)) for name, found in samples.items()]


def tell(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
