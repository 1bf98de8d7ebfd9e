"""How NIXL waits for messages.

Its progress thread looks without a pause, which takes a core for good. Where the model runs on
the same cores, that is half of its speed.
"""

from __future__ import annotations

import sys
from typing import Any

from vllm.distributed import nixl_utils

PAUSE_MICROSECONDS = 1000


def make_patient() -> None:
    """NIXL agents made from now on pause between two looks.

    NIXL has the setting; its Python API sets it to zero.
    """
    api: Any = sys.modules[nixl_utils.NixlWrapper.__module__]
    if not isinstance(api.nixlBind, PatientBindings):
        api.nixlBind = PatientBindings(api.nixlBind)


class PatientBindings:
    """NIXL's bindings, with another pause."""

    def __init__(self, bindings: Any) -> None:
        self._bindings = bindings

        class Config(bindings.nixlAgentConfig):
            def __setattr__(self, name: str, value: object) -> None:
                super().__setattr__(name, PAUSE_MICROSECONDS if name == "pthrDelay" else value)

        self.nixlAgentConfig = Config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bindings, name)
