"""What can be said to the `baton` command."""

from __future__ import annotations

import argparse
from pathlib import Path

from baton.flags import Parser, add_flags
from baton.fleet_settings import FleetSettings
from baton.model import DEFAULT_MODEL
from baton.settings import CalibrateSettings, StateSettings, UpSettings
from baton.status_settings import StatusSettings

ABOUT = """\
Serve a model with vLLM, prefill and decode in separate workers, behind one
OpenAI-compatible endpoint.

  baton up                              serve the default model on port 8000
  baton up --model ./my-model --detach
  baton status                          who runs, and how busy
  baton status --redis redis://host     the workers of a fleet on any hosts
  baton fleet explain                   which workers requests went to, and why
  baton down                            stop what --detach left running
"""

ABOUT_UP = """\
Start a gateway, prefill workers, decode workers and, unless --redis names a
server, an embedded Valkey. Show the address. Serve until Ctrl-C.

Every flag can also be a BATON_<NAME> variable or a line of the --config file;
flags win over variables, and variables over the file.

  baton up
  baton up --prefill 2 --decode 4 --port 9000
  baton up --model HuggingFaceTB/SmolLM2-360M-Instruct --max-model-len 4096
  baton up --engine-args="--block-size 64" --decode-args="--max-num-seqs 64"
  baton up --config baton.yaml --detach
"""

ABOUT_LOGS = """\
Show what the processes of a fleet wrote.

  baton logs                            the end of every log
  baton logs -n 100 prefill-0 gateway
  baton logs -f                         and what comes
"""

ABOUT_FLEET = """\
What a gateway knows of its fleet, and how it decides (docs/routing.md).

  baton fleet index                     the prefix index: which worker holds what
  baton fleet explain                   which workers the last requests went to
  baton fleet decision                  whether hand-off pays, and how fast workers are

They ask the gateway of the run in --state-dir, or any other:

  baton fleet index --url http://10.0.0.7:8000
"""

ABOUT_INDEX = """\
Show the prefix index: how many KV blocks the gateway knows of on each worker, in the
GPU's (or CPU engine's) cache, in host memory and on disk, and how many it expects there
because a prompt was just sent; tiers that hold nothing are left out. An entry is one block
on one worker. A worker is whole when nothing that it has told is missing.

  baton fleet index
  baton fleet index --audit             is it true?
  baton fleet index --json | jq .hit_rate

--audit asks up to 16 workers, chosen at random, for the blocks that they really hold, twice,
a second apart, and counts what differs both times: `lacking`, which workers hold and the
index does not know of (a lost chance), and `wrong`, which the index has and workers do not
(a prompt may go there in vain). It may run under load.

Exit code: 0 if the index is current and whole, 1 if not, or if the gateway does not
answer, 3 if nothing runs. With --json always 0 if it answers.
"""

ABOUT_EXPLAIN = """\
Show why requests went where they went: the last ones, or one by its id, or by the part of
it that the client knows (its x-request-id, or the id in its answer).

  baton fleet explain
  baton fleet explain chatcmpl-8f14e45fceea167a
  curl -i -H 'x-baton-debug: 1' ...     the same in short, as header x-baton-route

For one request: what either way was predicted to take, with the cost that was compared
(1 for each goal that is just met), and the best candidates with what every scorer gave
them, weighted. * marks what was taken. Nothing of the prompt is kept but its length.
"""

ABOUT_DECISION = """\
Show whether it pays that prefill workers compute prompts, as measured: by the size of what
is not cached, both ways with requests, mean TTFT and ITL, and how much later than predicted
the first token came; what hand-off saves a request; how fast each worker computes prompts
and decodes, and how much one prompt token delays streams beside it; and the bandwidth of
pairs of workers that KV has moved between.

  baton fleet decision
  baton fleet decision --json | jq .ttft_gain_seconds
"""

ABOUT_SIM = """\
Simulated workers have the times, caches and hand-offs of real ones, and no model.

  baton up --sim --prefill 8 --decode 8 --sim-speed 10

starts a fleet of them, all in one process. How fast the real ones are is learned
from a real fleet that has nothing else to do, over HTTP:

  baton sim calibrate --url http://127.0.0.1:8000 --out sim.json
  baton up --sim --sim-profile sim.json
"""

ABOUT_CALIBRATE = """\
Measure a running fleet: the time to the first token by the length of the prompt,
the time between tokens by the number of answers at once and their context, and what
the hand-off of KV adds. Fit a simulated engine's parameters to that, show both, and
save them. Takes a few minutes on a CPU; nobody else should use the fleet meanwhile.

  baton sim calibrate
  baton sim calibrate --url http://10.0.0.7:8000 --longest 16384 --streams 64
"""

ABOUT_KEY = """\
Make a fleet key and write it out. Whoever has it can pass for a member of the
fleet: keep it in a file that its owner alone can read (mode 600), as this does.

  baton key > fleet.key
  baton up --fleet-key-file fleet.key

Without one, `baton up` makes a key for each run.
"""

ABOUT_FETCH = """\
Fetch a model before it is needed, and show its folder.

  baton model fetch                     the default model
  baton model fetch org/name            from the Hugging Face hub
"""


def make_parser() -> Parser:
    """Its results hold `command`, a key of `baton.cli.COMMANDS`, and only the flags given."""
    parser = Parser(prog="baton", description=ABOUT)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_up(
        commands.add_parser(
            "up", help="start a fleet and serve", description=ABOUT_UP, usage="baton up [FLAG...]"
        )
    )
    for name, about in {
        "down": "stop a fleet and wait until it is gone",
        "status": "show the processes and their load",
    }.items():
        command = commands.add_parser(name, help=about, description=f"{about.capitalize()}.")
        command.set_defaults(command=name)
        add_flags(command, StatusSettings if name == "status" else StateSettings)
    add_fleet(commands.add_parser("fleet", help="show how it decides", description=ABOUT_FLEET))
    add_logs(commands.add_parser("logs", help="show their logs", description=ABOUT_LOGS))
    key = commands.add_parser("key", help="make a fleet key", description=ABOUT_KEY)
    key.set_defaults(command="key")
    sim = commands.add_parser("sim", help="learn how fast a fleet is", description=ABOUT_SIM)
    add_calibrate(sim.add_subparsers(metavar="VERB", required=True))
    model = commands.add_parser("model", help="fetch a model", description=ABOUT_FETCH)
    verbs = model.add_subparsers(metavar="VERB", required=True)
    add_fetch(verbs.add_parser("fetch", help="fetch a model", description=ABOUT_FETCH))
    return parser


def add_up(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="up")
    parser.add_argument(
        "--config",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="YAML lines of settings, `prefill: 2`; deploy/baton.sample.yaml shows all",
    )
    add_flags(parser, UpSettings)


def add_logs(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="logs")
    parser.add_argument("names", nargs="*", metavar="PROCESS", help="such as prefill-0")
    parser.add_argument("-n", "--lines", type=int, default=20, help="of each log (default: 20)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on as they grow")
    add_flags(parser, StateSettings)


def add_fleet(parser: argparse.ArgumentParser) -> None:
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for name, help_, about in (
        ("index", "which worker holds which blocks", ABOUT_INDEX),
        ("explain", "why requests went where they went", ABOUT_EXPLAIN),
        ("decision", "whether hand-off pays", ABOUT_DECISION),
    ):
        verb = verbs.add_parser(name, help=help_, description=about)
        verb.set_defaults(command=f"fleet {name}")
        if name == "index":
            verb.add_argument("--audit", action="store_true", help="ask the workers if it is true")
        if name == "explain":
            verb.add_argument("request_id", nargs="?", metavar="ID", help="or six letters of it")
        verb.add_argument("--json", action="store_true", help="the gateway's answer as it is")
        add_flags(verb, FleetSettings)


def add_calibrate(verbs: argparse._SubParsersAction[Parser]) -> None:
    parser = verbs.add_parser("calibrate", help="by measuring one", description=ABOUT_CALIBRATE)
    parser.set_defaults(command="sim calibrate")
    add_flags(parser, CalibrateSettings)


def add_fetch(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command="model fetch")
    parser.add_argument(
        "name",
        nargs="?",
        default=DEFAULT_MODEL,
        help=f"folder or hub id (default: {DEFAULT_MODEL})",
    )
