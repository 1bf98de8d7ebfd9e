"""What keeps a model from being served; each text is one line that says what to do.

ModelError
├── UnknownModel       no folder, hub id or default of that name
├── IncompleteModel    a folder without a part that serving needs
├── DownloadFailed     a registry or hub did not give it
└── BadModelFile       what was downloaded is not what it should be, or cannot be converted
"""

from __future__ import annotations

from baton.errors import BatonError


class ModelError(BatonError):
    def __init__(self, model: str, reason: str) -> None:
        super().__init__(f"{model}: {reason}")
        self.model = model
        self.reason = reason


class UnknownModel(ModelError):
    pass


class IncompleteModel(ModelError):
    pass


class DownloadFailed(ModelError):
    pass


class BadModelFile(ModelError):
    pass
