"""`baton sim calibrate`: how fast a real fleet is, for simulations of it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from baton.console import Console
from baton.settings import CalibrateSettings
from baton.sim_fit import Fit, Generation, Prompt, fit
from baton.sim_probe import Probe
from baton.table import render

HEADING = ("what", "measured", "fitted", "error")
SHORT_TOKENS = 64
WARM_UP_TOKENS = 16


def calibrate(settings: CalibrateSettings, console: Console) -> int:
    """Raises BatonError."""
    probe = Probe(settings.url)
    probe.prompt(WARM_UP_TOKENS)
    _, num_layers = probe.prompt(WARM_UP_TOKENS)
    prompts = measure_prompts(probe, settings, console)
    generations = measure_generations(probe, settings, console)
    fitted = fit(generations, prompts, num_layers, settings.chunk_tokens)
    rows = [*rows_of(fitted, generations, prompts), *network_rows(fitted, prompts, num_layers)]
    for line in render(HEADING, rows):
        console.line(line)
    for name, value in fitted.profile.items():
        console.line(f"{name:<23} {value:.4g}")
    console.line(f"beside the engines, {1000 * fitted.overhead_seconds:.0f} ms a request")
    if "bandwidth" not in fitted.profile:
        console.line("The hand-off took no time that could be measured: its default is left")
    settings.out.write_bytes(msgspec.json.format(msgspec.json.encode(fitted.profile), indent=2))
    console.line(f"Saved {settings.out}: baton up --sim --sim-profile {settings.out}")
    return 0


def measure_prompts(probe: Probe, settings: CalibrateSettings, console: Console) -> list[Prompt]:
    """Each alone, the fastest of its repeats: what else the machine does is not the engine's."""
    best = []
    for num_tokens in doubling(SHORT_TOKENS, settings.longest):
        console.transient(f"  a prompt of {num_tokens} tokens")
        measured = [probe.prompt(num_tokens)[0] for _ in range(settings.repeats)]
        best.append(min(measured, key=lambda each: each.seconds))
    return best


def measure_generations(
    probe: Probe, settings: CalibrateSettings, console: Console
) -> list[Generation]:
    measured = []
    for num_prompt_tokens in (SHORT_TOKENS, min(1024, settings.longest)):
        for num_streams in doubling(1, settings.streams):
            console.transient(f"  {num_streams} streams after {num_prompt_tokens} tokens")
            # The first one must still run when the last one's prompt has been computed.
            num_tokens = 48 + num_streams * num_prompt_tokens // 16
            repeats = [
                probe.generation(num_streams, num_prompt_tokens, num_tokens)
                for _ in range(settings.repeats)
            ]
            measured.append(min(repeats, key=lambda each: each.seconds))
    return measured


def doubling(first: int, last: int) -> Iterable[int]:
    """`first`, twice that, and so on; `last` is the last one."""
    while first < last:
        yield first
        first *= 2
    yield last


def rows_of(
    fitted: Fit, generations: Iterable[Generation], prompts: Iterable[Prompt]
) -> list[tuple[str, ...]]:
    rows = [
        row(f"first token of {e.num_tokens} tokens", e.seconds, fitted.prompt_seconds(e))
        for e in prompts
    ]
    rows += [
        row(
            f"next token, {e.num_streams} streams, {e.num_context_tokens:.0f} tokens of context",
            e.seconds,
            fitted.generation_seconds(e),
        )
        for e in generations
    ]
    return rows


def network_rows(fitted: Fit, prompts: Iterable[Prompt], num_layers: int) -> list[tuple[str, ...]]:
    return [
        row(
            f"end of the hand-off of {e.num_tokens} tokens",
            e.exposed_seconds,
            fitted.exposed_seconds(e, num_layers),
        )
        for e in prompts
        if e.exposed_seconds > 0
    ]


def row(what: str, measured: float, fitted: float | None) -> tuple[str, ...]:
    if fitted is None:
        return what, f"{1000 * measured:.1f} ms", "", ""
    error = 100 * (fitted / measured - 1)
    return what, f"{1000 * measured:.1f} ms", f"{1000 * fitted:.1f} ms", f"{error:+.0f} %"
