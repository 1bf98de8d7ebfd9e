"""The table of rooms holds over the real imports, and the check of it can fail."""

from __future__ import annotations

from importlib import metadata, util
from pathlib import Path

import pytest

from tests.layering import (
    ROOMS,
    forbidden_heavies,
    forbidden_rooms,
    import_cycle,
    imports_of,
    source_files,
)

ROOT = Path(__file__).resolve().parent.parent


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, source in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(source)
    return root


def test_every_room_is_there_and_read() -> None:
    assert {path.parts[0] for path in source_files(ROOT)} == ROOMS.keys()


def test_rooms_import_only_what_the_table_allows() -> None:
    assert forbidden_rooms(imports_of(ROOT)) == []


def test_only_the_adapters_import_torch_and_vllm() -> None:
    assert forbidden_heavies(imports_of(ROOT)) == []


def test_no_modules_import_each_other() -> None:
    assert import_cycle(imports_of(ROOT)) == []


def test_the_import_name_proto_is_ours() -> None:
    installed = {distribution.metadata["Name"] for distribution in metadata.distributions()}
    assert "proto-plus" not in installed, (
        "PyPI's proto-plus is installed, and its import name `proto` is also our folder's: "
        "uninstall it, or run what needs it in an environment of its own"
    )
    spec = util.find_spec("proto")
    assert spec is not None
    assert spec.origin == str(ROOT / "proto" / "__init__.py")


@pytest.mark.parametrize(
    ("file", "source", "complaint"),
    [
        pytest.param(
            "fleet/a.py",
            "import worker.session",
            "fleet/a.py:1 imports worker.session: fleet may import proto",
            id="upwards",
        ),
        pytest.param(
            "worker/a.py",
            "def late():\n    from gateway import app",
            "worker/a.py:2 imports gateway.app: worker may import fleet, kvtransfer, proto",
            id="inside-a-function",
        ),
        pytest.param(
            "baton/a.py",
            "from decode_worker.settings import Settings",
            "baton/a.py:1 imports decode_worker.settings.Settings: baton may import fleet, proto",
            id="a-role",
        ),
        pytest.param(
            "loadtest/a.py",
            "import proto",
            "loadtest/a.py:1 imports proto: loadtest may import no room",
            id="loadtest",
        ),
    ],
)
def test_a_forbidden_import_is_named(
    tmp_path: Path, file: str, source: str, complaint: str
) -> None:
    assert forbidden_rooms(imports_of(write_tree(tmp_path, {file: source}))) == [complaint]


@pytest.mark.parametrize(
    ("file", "source", "is_allowed"),
    [
        pytest.param("worker/engine.py", "import torch", True, id="adapter"),
        pytest.param("worker/ledger.py", "from torch import Tensor", False, id="beside-it"),
        pytest.param("gateway/app.py", "import vllm.envs", False, id="submodule"),
        pytest.param("gateway/app.py", "import vllmx, torchlike", True, id="other-name"),
    ],
)
def test_torch_and_vllm_are_seen_outside_the_adapters(
    tmp_path: Path, file: str, source: str, is_allowed: bool
) -> None:
    complaints = forbidden_heavies(imports_of(write_tree(tmp_path, {file: source})))
    assert (complaints == []) is is_allowed


def test_a_cycle_is_named_in_order(tmp_path: Path) -> None:
    files = {
        "fleet/a.py": "from fleet import b",
        "fleet/b.py": "import fleet.c",
        "fleet/c.py": "from fleet.a import A",
    }
    cycle = import_cycle(imports_of(write_tree(tmp_path, files)))
    assert sorted(set(cycle)) == ["fleet.a", "fleet.b", "fleet.c"]
    assert cycle[0] == cycle[-1]


def test_imports_for_type_checkers_make_no_cycle(tmp_path: Path) -> None:
    files = {
        "fleet/a.py": "from fleet.b import B",
        "fleet/b.py": "if TYPE_CHECKING:\n    from fleet.a import A",
    }
    assert import_cycle(imports_of(write_tree(tmp_path, files))) == []
