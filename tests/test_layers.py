"""Imports only run downwards: which package may import which."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "prefdelta"

LAYERS = (
    "core",
    "linalg",
    "recipe",
    "micro",
    "adapters",
    "training",
    "agent",
    "generation",
    "evaluation",
    "pairs",
    "merging",
    "report",
    "experiments",
    "cli",
)
"""From the bottom up. A package imports from those before it only; ``linalg`` imports from none."""


def imported(path: Path) -> Iterator[str]:
    """The packages of prefdelta that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("prefdelta"):
            parts = node.module.split(".")
            yield from [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from [alias.name.split(".")[1] for alias in node.names if alias.name.startswith("prefdelta.")]


def test_every_package_has_its_place() -> None:
    assert {path.parent.name for path in SOURCE.glob("*/__init__.py")} == set(LAYERS)


def test_the_documentation_has_the_same_order() -> None:
    page = (SOURCE.parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == list(reversed(LAYERS))


def test_imports_run_downwards() -> None:
    upwards = []
    for package in LAYERS:
        below = set() if package == "linalg" else set(LAYERS[: LAYERS.index(package)])
        for path in sorted((SOURCE / package).rglob("*.py")):
            upwards += [
                f"{path.relative_to(SOURCE)} -> {name}" for name in imported(path) if name not in {package, *below}
            ]
    assert not upwards


def module_imports() -> dict[str, set[str]]:
    """Module -> the modules of prefdelta that it imports."""
    names = {
        ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SOURCE.rglob("*.py")
    }
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        found = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module in names:
                found |= {
                    full if (full := f"{node.module}.{alias.name}") in names else node.module for alias in node.names
                }
        graph[name] = found - {name}
    return graph


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = module_imports()
    done: set[str] = set()

    def walk(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for other in sorted(graph[name]):
                walk(other, (*trail, name))
            done.add(name)

    for name in sorted(graph):
        walk(name, ())
