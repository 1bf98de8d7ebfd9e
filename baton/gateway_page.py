"""The pages of a running gateway, for the commands that show them."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from baton.console import Console
from baton.errors import BadSettings, NoAnswer, NothingRuns
from baton.run_folder import RunFolder
from baton.run_state import RunState

# The slowest page asks the fleet's state, which has a few seconds.
ANSWER_SECONDS = 10.0
# Of the gateway's refusals; see gateway/routes.py.
NO_SUCH_PAGE = "unknown_endpoint"
HINTS = {
    "unknown_request": " `baton fleet explain` lists the last ones; of a gateway of several "
    "processes, each knows its own: try again.",
}

T = TypeVar("T")


def find_gateway(folder: RunFolder, url: str | None) -> str:
    """Its base, without a path: the one that is named, or that of the run in `folder`.

    Raises NothingRuns, NoAnswer or BadSettings.
    """
    if url:
        return base_of(url)
    state = RunState.read(folder.state)
    if not state or not state.supervisor.is_alive():
        raise NothingRuns(
            f"nothing is running out of {folder.path}: `baton up` starts a fleet, "
            "--url URL names another gateway"
        )
    if not state.is_up:
        raise NoAnswer("the gateway is still starting: `baton status` shows what it waits for")
    return state.url


def base_of(url: str) -> str:
    """As people write one: with or without a scheme, a slash, or the /v1 of an SDK's base."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadSettings(f"--url {url}: use a gateway's address, such as http://127.0.0.1:8000")
    path = parts.path.rstrip("/").removesuffix("/v1")
    return f"{parts.scheme}://{parts.netloc}{path}"


def fetch(gateway: str, path: str, seconds: float = ANSWER_SECONDS) -> Any:
    """What the page says, as plain values. Raises NoAnswer."""
    # No proxy: a gateway is on a private network.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{gateway}{path}", timeout=seconds) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            raise NoAnswer(why_refused(gateway, path, refusal)) from None
    except TimeoutError:
        raise NoAnswer(f"{gateway} has not answered within {seconds:g} s: try again") from None
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        words = getattr(reason, "strerror", None) or reason
        raise NoAnswer(
            f"nothing answers at {gateway} ({words}): `baton status` shows whether the gateway "
            "runs, --url URL names another"
        ) from None
    except ValueError:
        raise NoAnswer(not_a_gateway(gateway, path)) from None


def why_refused(gateway: str, path: str, refusal: urllib.error.HTTPError) -> str:
    """One line, with a way out."""
    try:
        error = json.loads(refusal.read())["error"]
        code, message = error["code"], " ".join(str(error["message"]).split())
    except (OSError, ValueError, LookupError, TypeError):
        return not_a_gateway(gateway, path)
    if code == NO_SUCH_PAGE:
        page = path.partition("?")[0]
        return f"the gateway at {gateway} is older and has no page {page}: start it anew"
    return f"{message}{HINTS.get(code, '')}"


def not_a_gateway(gateway: str, path: str) -> str:
    page = path.partition("?")[0]
    return f"{gateway}{page} does not answer as a Baton gateway would: does --url name one?"


def read(page: Any, kind: type[T]) -> T:
    """Its fields; those that are not known are passed over. Raises NoAnswer."""
    try:
        return msgspec.convert(page, kind)
    except msgspec.ValidationError as error:
        raise NoAnswer(
            f"the gateway is of another version ({error}): --json shows its answer as it is"
        ) from None


def show_as_it_is(page: Any, console: Console) -> int:
    console.line(json.dumps(page, indent=2))
    return 0


def names_of(keys: Iterable[str]) -> dict[str, str]:
    """What to call "worker_id/incarnation": by the id, if it is the only one with that."""
    keys = tuple(dict.fromkeys(keys))
    ids = [key.partition("/")[0] for key in keys]
    return {key: name if ids.count(name) == 1 else key for key, name in zip(keys, ids, strict=True)}
