"""Where cold KV goes when the paged cache is full: host memory, and from there a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class OffloadPlan:
    """`host_bytes` are one worker's, all its ranks together. Every block in host memory is
    also written to `folder`, if there is one, which takes up to `folder_bytes`.
    """

    host_bytes: int
    folder: Path | None = None
    folder_bytes: int = 0

    def beside(self, connector: Mapping[str, Any]) -> dict[str, Any]:
        """That connector and the offloading one, as settings of vLLM's KVTransferConfig.

        The order counts: a prompt that the first one loads is not looked up by the second.
        """
        role = connector["kv_role"]
        children = [
            {name: value for name, value in connector.items() if name != FAILURE_POLICY},
            self._connector(role),
        ]
        return {
            "kv_connector": "MultiConnector",
            "kv_role": role,
            FAILURE_POLICY: connector[FAILURE_POLICY],
            "kv_connector_extra_config": {"connectors": children},
        }

    def _connector(self, role: str) -> dict[str, Any]:
        return {
            "kv_connector": "OffloadConnector",
            "kv_connector_module_path": "kvtransfer.offload_connector",
            "kv_role": role,
            "kv_connector_extra_config": {
                "spec_name": "OffloadSpec",
                "spec_module_path": "kvtransfer.offload_spec",
                "cpu_bytes_to_use": self.host_bytes,
                # Events name tokens and parents, so that an index needs no other source.
                "self_describing_kv_events": True,
                "secondary_tiers": self._tiers(),
            },
        }

    def _tiers(self) -> list[dict[str, Any]]:
        if self.folder is None:
            return []
        return [
            {
                "type": "FolderTier",
                "module_path": "kvtransfer.offload_folder",
                "root_dir": str(self.folder.absolute()),
                "capacity_bytes": self.folder_bytes,
            }
        ]


FAILURE_POLICY = "kv_load_failure_policy"
