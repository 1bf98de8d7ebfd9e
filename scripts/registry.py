"""What pip knows about where packages come from, in words that uv understands.

uv reads neither pip's configuration nor its environment variables, so a machine that is set up for
pip alone (a mirror, a folder of wheels, a certificate) would be unknown to it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

_LINE = re.compile(r"^(?P<scope>.+)\.(?P<option>[\w-]+)=(?P<value>'.*'|\".*\")$")


def pip_options(python: Path) -> dict[str, str]:
    """pip's options as this user has them; the environment wins over files, as it does in pip."""
    listed = subprocess.run(
        [python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    found = [match for line in listed.splitlines() if (match := _LINE.match(line))]
    found.sort(key=lambda match: match["scope"] == ":env:")
    return {match["option"]: ast.literal_eval(match["value"]) for match in found}


def uv_environment(options: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for uv; what the user has set for uv stays."""
    wanted = {
        "UV_FIND_LINKS": ",".join(options.get("find-links", "").split()),
        "UV_DEFAULT_INDEX": options.get("index-url", ""),
        "UV_INDEX": " ".join(options.get("extra-index-url", "").split()),
        "UV_INSECURE_HOST": " ".join(options.get("trusted-host", "").split()),
        "UV_HTTP_TIMEOUT": options.get("timeout", options.get("default-timeout", "")),
        "SSL_CERT_FILE": options.get("cert", ""),
    }
    if wanted["UV_INDEX"]:
        # As pip does; every version is pinned, so that no index can slip in a higher one.
        wanted["UV_INDEX_STRATEGY"] = "unsafe-best-match"
    return {name: value for name, value in wanted.items() if value} | dict(environ)


def environment_for_uv(python: Path) -> dict[str, str]:
    """uv's environment on this machine."""
    return uv_environment(pip_options(python), os.environ) | {"UV_NO_PROGRESS": "1"}
