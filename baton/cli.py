"""The `baton` command."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from baton.console import Console
from baton.detach import detach
from baton.down import down
from baton.errors import BatonError
from baton.fleet_decision import fetch_decision, show_decision
from baton.fleet_explain import fetch_explanation, show_explanation
from baton.fleet_index import fetch_index, show_index
from baton.fleet_key import show_key
from baton.fleet_settings import FleetSettings
from baton.gateway_page import find_gateway, show_as_it_is
from baton.layers import load
from baton.logs import logs
from baton.model import baton_home, ensure_model, models_dir
from baton.parser import make_parser
from baton.run_folder import RunFolder
from baton.settings import CalibrateSettings, StateSettings, UpSettings
from baton.status import status
from baton.status_settings import StatusSettings
from fleet.errors import FleetError

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    given = vars(make_parser().parse_args(arguments))
    command = COMMANDS[given.pop("command")]
    console = Console()
    return settled(lambda: command(Call(given, os.environ, console)), console)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the command: what was given, and what is around it."""

    given: dict[str, Any]
    environment: Mapping[str, str]
    console: Console

    def folder(self, settings: StateSettings | None = None) -> RunFolder:
        settings = settings or load(StateSettings, self.given, self.environment)
        return RunFolder.at(settings.state_dir or baton_home(self.environment) / "run")

    def gateway(self) -> str:
        """Of a command that asks one. Raises NothingRuns, NoAnswer or BadSettings."""
        settings = load(FleetSettings, self.given, self.environment)
        return find_gateway(self.folder(settings), settings.url)


def settled(run: Callable[[], int], console: Console) -> int:
    """The exit code of `run`; its errors become one line."""
    try:
        return run()
    except BatonError as error:
        console.error(str(error))
        return error.exit_code
    except FleetError as error:
        console.error(str(error))
        return BatonError.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED


def run_up(call: Call) -> int:
    # Not above: the other commands need no Redis client, which is slow to import.
    from baton.up import up

    config = call.given.pop("config", None)
    settings = load(UpSettings, call.given, call.environment, config)
    folder = call.folder(settings)

    def serve(on_up: Callable[[], None]) -> int:
        run = partial(up, settings, folder, call.environment, call.console, on_up)
        return settled(run, call.console)

    where = f" --state-dir {folder.path}" if settings.state_dir else ""
    hint = f"{program()} status{where} shows its state; "

    def serve_detached(let_go: Callable[[], None]) -> int:
        def on_up() -> None:
            call.console.line(f"{hint}{program()} down{where} stops it")
            let_go()

        return serve(on_up)

    if settings.detach:
        return detach(serve_detached, folder.log("baton"))
    return serve(lambda: call.console.line(f"{hint}Ctrl-C stops it"))


def program() -> str:
    """How to call this command again, from where it was called."""
    if shutil.which("baton"):
        return "baton"
    called = sys.argv[0]
    return called if Path(called).name == "baton" else f"{Path(sys.executable).name} -m baton"


def run_down(call: Call) -> int:
    return down(call.folder(), call.console)


def run_status(call: Call) -> int:
    settings = load(StatusSettings, call.given, call.environment)
    if settings.redis and "redis" in call.given:
        # Not above: see run_up.
        from baton.fleet_status import fleet_status

        return fleet_status(settings.redis, settings.fleet, call.console)
    return status(call.folder(settings), call.console)


def run_index(call: Call) -> int:
    is_audited, is_raw = call.given.pop("audit"), call.given.pop("json")
    page = fetch_index(call.gateway(), is_audited, call.console)
    return (show_as_it_is if is_raw else show_index)(page, call.console)


def run_explain(call: Call) -> int:
    request_id, is_raw = call.given.pop("request_id"), call.given.pop("json")
    page = fetch_explanation(call.gateway(), request_id)
    return (show_as_it_is if is_raw else show_explanation)(page, call.console)


def run_decision(call: Call) -> int:
    is_raw = call.given.pop("json")
    page = fetch_decision(call.gateway())
    return (show_as_it_is if is_raw else show_decision)(page, call.console)


def run_logs(call: Call) -> int:
    names, num_lines = call.given.pop("names"), call.given.pop("lines")
    is_followed = call.given.pop("follow")
    return logs(call.folder(), call.console, names, num_lines, is_followed)


def run_fetch(call: Call) -> int:
    models = models_dir(call.environment)
    folder = ensure_model(call.given["name"], models, call.console.line)
    call.console.line(str(folder))
    return 0


def run_calibrate(call: Call) -> int:
    # Not above: the other commands need no numpy, which is slow to import.
    from baton.sim_calibrate import calibrate

    return calibrate(load(CalibrateSettings, call.given, call.environment), call.console)


def run_key(call: Call) -> int:
    sys.stdout.flush()
    show_key(sys.stdout.fileno())
    return 0


COMMANDS: dict[str, Callable[[Call], int]] = {
    "up": run_up,
    "down": run_down,
    "status": run_status,
    "fleet index": run_index,
    "fleet explain": run_explain,
    "fleet decision": run_decision,
    "logs": run_logs,
    "key": run_key,
    "model fetch": run_fetch,
    "sim calibrate": run_calibrate,
}
