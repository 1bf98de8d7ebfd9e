"""A model from the Hugging Face hub, through the hub's own cache: nothing is fetched twice."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import disable_progress_bars

from baton.model_errors import DownloadFailed, IncompleteModel, UnknownModel
from baton.model_folder import check_folder
from baton.model_progress import Progress

TEXTS = ("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "LICENSE*", "NOTICE*")
SAFETENSORS = "*.safetensors"
PICKLES = "*.bin"


def fetch_snapshot(
    model: str, progress: Progress, *, endpoint: str | None = None, cache: Path | None = None
) -> Path:
    """The folder of `model` ("org/name"). Without a network, what is complete in the cache will do.

    Raises UnknownModel, DownloadFailed or IncompleteModel.
    """
    try:
        return check_folder(Path(snapshot_download(model, local_files_only=True, cache_dir=cache)))
    except (LocalEntryNotFoundError, IncompleteModel):
        return _download(model, progress, endpoint, cache)


def _download(model: str, progress: Progress, endpoint: str | None, cache: Path | None) -> Path:
    disable_progress_bars()
    try:
        progress(f"{model}: asking the hub for its files")
        listed = HfApi(endpoint=endpoint).model_info(model, files_metadata=True, timeout=10)
        sizes = {file.rfilename: file.size or 0 for file in listed.siblings or ()}
        folder = None
        names = wanted_files(sizes)
        for number, name in enumerate(names, 1):
            progress(f"{model}: file {number} of {len(names)}, {name} ({sizes[name] / 1e6:.1f} MB)")
            file = hf_hub_download(model, name, endpoint=endpoint, cache_dir=cache)
            folder = Path(file).parent
    except GatedRepoError:
        raise DownloadFailed(
            model, "its authors want their licence accepted on the hub first; then set HF_TOKEN"
        ) from None
    except RepositoryNotFoundError:
        raise UnknownModel(
            model, "the hub has no public model of that name (a private one needs HF_TOKEN)"
        ) from None
    except (HTTPError, OSError) as error:
        raise DownloadFailed(
            model,
            f"the hub cannot be reached ({type(error).__name__}): name a local folder instead, "
            "or leave --model out for the default model, which needs no hub",
        ) from None
    if folder is None:
        raise IncompleteModel(model, "the hub lists no files that an engine could load")
    return check_folder(folder)


def wanted_files(names: Iterable[str]) -> list[str]:
    """The top folder's texts and weights; pickled weights only where there are no safetensors."""
    top = sorted(name for name in names if "/" not in name)
    weights = [name for name in top if fnmatch(name, SAFETENSORS)]
    weights = weights or [name for name in top if fnmatch(name, PICKLES)]
    texts = [name for name in top if any(fnmatch(name, pattern) for pattern in TEXTS)]
    return texts + weights
