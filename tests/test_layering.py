"""Which module imports which: one circle, RLlib's own pair of an algorithm and its config."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGE = "sfpo_rllib"


def imports() -> dict[str, set[str]]:
    """What each module imports of the package: also in functions, and under TYPE_CHECKING."""
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in (ROOT / PACKAGE).rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        names = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
        # A package that is named for what is in one of its modules is none of the circle.
        found[module] = {
            name
            for name in names & files.keys()
            if not any(other.startswith(f"{name}.") for other in names & files.keys())
        }
    return found


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph[waiting.pop()] - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def test_imports_form_no_circle_but_that_of_an_algorithm_and_its_config():
    graph = imports()
    circle = {module for module in graph if module in reached(graph, module)}
    algorithms = f"{PACKAGE}.algorithms.grpo"
    assert circle == {f"{algorithms}.grpo", f"{algorithms}.grpo_config"}


def test_the_core_imports_none_of_the_other_rooms():
    core = {m: names for m, names in imports().items() if m.startswith(f"{PACKAGE}.core")}
    assert core
    for module, names in core.items():
        assert all(name.startswith(f"{PACKAGE}.core") for name in names), module
