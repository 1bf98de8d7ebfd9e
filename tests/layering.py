"""Who imports whom, read from source with `ast`: nothing is imported to find out."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# The table "Rooms" of docs/architecture.md: a room and the rooms that it may import.
ROOMS: Mapping[str, frozenset[str]] = {
    "proto": frozenset(),
    "fleet": frozenset({"proto"}),
    "kvtransfer": frozenset({"proto"}),
    "worker": frozenset({"kvtransfer", "fleet", "proto"}),
    "prefill_worker": frozenset({"worker"}),
    "decode_worker": frozenset({"worker"}),
    "gateway": frozenset({"fleet", "proto"}),
    # It starts the others as processes, and reads in the fleet which of them are ready. Of proto
    # it needs the fleet's key alone.
    "baton": frozenset({"fleet", "proto"}),
    "loadtest": frozenset(),
}

# The only files that may import torch or vLLM: what a vLLM upgrade touches.
ADAPTERS: Mapping[str, frozenset[str]] = {
    "kvtransfer/connector*.py": frozenset({"torch", "vllm"}),
    "kvtransfer/extension.py": frozenset({"vllm"}),
    "kvtransfer/nixl_*.py": frozenset({"torch", "vllm"}),
    "kvtransfer/offload_*.py": frozenset({"vllm"}),
    "worker/engine*.py": frozenset({"torch", "vllm"}),
    "gateway/front_half*.py": frozenset({"torch", "vllm"}),
}
HEAVY = frozenset({"torch", "vllm"})


@dataclass(frozen=True, slots=True)
class Import:
    """One import statement: `target` is the dotted name that it asks for."""

    file: str
    line: int
    module: str
    target: str
    is_at_start: bool

    @property
    def room(self) -> str:
        return self.module.partition(".")[0]

    @property
    def target_room(self) -> str:
        return self.target.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.target}"


def module_name(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def source_files(root: Path) -> list[Path]:
    """The files of all rooms, relative to `root`."""
    found = (path.relative_to(root) for room in ROOMS for path in (root / room).rglob("*.py"))
    return sorted(path for path in found if "_pb2" not in path.name)


def imports_of(root: Path) -> list[Import]:
    """Every import of every room, those inside functions and for type checkers included."""
    return [found for path in source_files(root) for found in _imports_in(root, path)]


def _imports_in(root: Path, path: Path) -> Iterator[Import]:
    tree = ast.parse((root / path).read_text(), str(path))
    at_start = set(_statements_run_at_import(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for target in _targets(node):
                yield Import(str(path), node.lineno, module_name(path), target, node in at_start)


def _statements_run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All below `node` but bodies of functions and of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _statements_run_at_import(child)


def _targets(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [f"{node.module or '.'}.{alias.name}" for alias in node.names]


def forbidden_rooms(imports: list[Import]) -> list[str]:
    """Imports between rooms that the table does not allow."""
    return [
        f"{found}: {found.room} may import {', '.join(sorted(ROOMS[found.room])) or 'no room'}"
        for found in imports
        if found.target_room in ROOMS.keys() - ROOMS[found.room] - {found.room}
    ]


def forbidden_heavies(imports: list[Import]) -> list[str]:
    """Imports of torch or vLLM outside the adapters."""
    return [
        f"{found}: only {', '.join(ADAPTERS)} may"
        for found in imports
        if found.target_room in HEAVY - _allowed_in(found.file)
    ]


def _allowed_in(file: str) -> frozenset[str]:
    return frozenset().union(
        *(allowed for pattern, allowed in ADAPTERS.items() if fnmatch(file, pattern))
    )


def import_cycle(imports: list[Import]) -> list[str]:
    """Modules that import each other while they load, in order; empty if there are none."""
    modules = {found.module for found in imports}
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for found in imports:
        target = next((t for t in _prefixes(found.target) if t in modules), None)
        if found.is_at_start and target and target != found.module:
            graph[found.module].add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as cycle:
        return list(reversed(cycle.args[1]))
    return []


def _prefixes(name: str) -> Iterator[str]:
    """`a.b.c`, `a.b`, `a`."""
    while name:
        yield name
        name = name.rpartition(".")[0]
