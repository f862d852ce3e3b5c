"""Which module may import which, read from the source: also for type checks, and in functions."""

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from repository import ROOT

PACKAGES = {"sfpo_rllib": ROOT, "sfpo_envs": ROOT / "envs"}
MAX_LINES = 400

# What is still to be mended. An entry that is no longer needed fails: these lists only shrink.
IN_CIRCLES_LEFT: set[str] = set()
LONG_FILES_LEFT: set[str] = set()


def name_of(path: Path, root: Path) -> str:
    """The module's, a package's for its `__init__`."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    name_of(path, root): path
    for package, root in PACKAGES.items()
    for path in sorted((root / package).rglob("*.py"))
}


def imported(source: str, module: str, *, is_package: bool) -> Iterator[str]:
    """All that a module names in an import; `from a import b` is `a.b`, which may be no module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: len(module.split(".")) - node.level + is_package]
            start = [*above, *filter(None, [node.module])] if node.level else [node.module or ""]
            yield from (".".join([*start, alias.name]) for alias in node.names)


@cache
def imports(module: str) -> frozenset[str]:
    """What a module of ours imports: modules of ours, and others by their first name."""
    path = MODULES[module]
    found = set()
    for name in imported(path.read_text(), module, is_package=path.name == "__init__.py"):
        ours = name if name in MODULES else name.rpartition(".")[0]
        found.add(ours if ours in MODULES else name.partition(".")[0])
    return frozenset(found - {module})


def circles(graph: dict[str, frozenset[str]]) -> set[frozenset[str]]:
    """The sets of modules in which each reaches each."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            for other in graph[waiting.pop()] & graph.keys() - seen:
                seen.add(other)
                waiting.append(other)
        return seen

    reached = {module: reach(module) for module in graph}
    return {
        frozenset(other for other in reached[module] if module in reached[other])
        for module in graph
        if module in reached[module]
    }


def outside(package: str) -> dict[str, set[str]]:
    """Packages that are imported by the modules of one, but for the standard library's."""
    found: dict[str, set[str]] = {}
    for module in MODULES:
        if module == package or module.startswith(f"{package}."):
            for name in imports(module):
                first = name.partition(".")[0]
                inside = name == package or name.startswith(f"{package}.")
                if not inside and first not in sys.stdlib_module_names:
                    found.setdefault(name if first in PACKAGES else first, set()).add(module)
    return found


def test_imports_form_no_circle_but_that_of_the_algorithm_and_its_config() -> None:
    grpo = "sfpo_rllib.algorithms.grpo"
    allowed = frozenset({f"{grpo}.grpo", f"{grpo}.grpo_config"})
    found = circles({module: imports(module) for module in MODULES})
    assert {module for circle in found - {allowed} for module in circle} == IN_CIRCLES_LEFT


def test_the_core_imports_torch_alone() -> None:
    assert outside("sfpo_rllib.core").keys() == {"torch"}


def test_environments_import_nothing_that_trains() -> None:
    found = outside("sfpo_envs")
    for name in ("ray", "torch", "transformers", "vllm"):
        assert name not in found, found[name]
    assert not {name for name in found if name.partition(".")[0] == "sfpo_rllib"}


def test_environments_are_reached_through_plugins_alone() -> None:
    found = {name for name in outside("sfpo_rllib") if name.partition(".")[0] == "sfpo_envs"}
    assert found == {"sfpo_envs.plugins"}


def test_an_engine_is_imported_if_it_is_chosen_and_vllm_where_it_is_used() -> None:
    from sfpo_rllib.env_runners.engines import ENGINES

    engines = {place.partition(":")[0] for place in ENGINES.values()}
    assert engines < MODULES.keys()
    for module, path in MODULES.items():
        assert not engines & imports(module), module
        source = path.read_text()
        functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef)]
        found = (imports_of_vllm(text) for text in (source, "\n".join(map(ast.unparse, functions))))
        everywhere, in_functions = found
        assert everywhere <= in_functions, module


def imports_of_vllm(source: str) -> Counter[str]:
    return Counter(n for n in imported(source, "", is_package=False) if n.split(".")[0] == "vllm")


def test_no_file_is_long() -> None:
    files = [path for folder in ("sfpo_rllib", "envs", "benchmarks") for path in python(folder)]
    assert len(files) > 100
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in files}
    assert {name for name, count in lines.items() if count > MAX_LINES} == LONG_FILES_LEFT


def python(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


# The tests of the tests.


def test_imports_are_found_wherever_they_stand() -> None:
    source = """
import os.path
from typing import TYPE_CHECKING
from . import near
from ..far import thing
if TYPE_CHECKING:
    from ray import tune
def f():
    import torch.nn as nn
"""
    inside = ["os.path", "typing.TYPE_CHECKING", "a.b.near", "a.far.thing", "ray.tune", "torch.nn"]
    assert sorted(imported(source, "a.b.c", is_package=False)) == sorted(inside)
    assert "a.b.c.near" in set(imported(source, "a.b.c", is_package=True))


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        ({"a": "b", "b": "c", "c": ""}, []),
        ({"a": "b", "b": "a", "c": "a"}, ["ab"]),
        ({"a": "b", "b": "c", "c": "ad", "d": "e", "e": "d"}, ["abc", "de"]),
    ],
)
def test_circles_are_found(edges: dict[str, str], expected: list[str]) -> None:
    graph = {module: frozenset(others) for module, others in edges.items()}
    assert circles(graph) == set(map(frozenset, expected))
