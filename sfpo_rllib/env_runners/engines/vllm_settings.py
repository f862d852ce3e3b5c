"""Which settings vLLM has, read from its source: importing it takes seconds, and starts things."""

import ast
import importlib.metadata
import importlib.util
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sfpo_rllib.core.checks import integer, nearest, none, number, value_problems

FIELD = "engine_kwargs"
# Of what we calculate with.
_KINDS = {
    "kv_cache_memory_bytes": integer(1, " (bytes)") | none("what is left of the device"),
    "gpu_memory_utilization": number(above=0.0, most=1.0),
    "max_model_len": integer(1, " (tokens)") | none("the model's"),
    "max_num_seqs": integer(1) | none("vLLM's default"),
}


def installed_vllm() -> dict[str, str]:
    """The version of each package that is imported as vllm, by its name."""
    names = importlib.metadata.packages_distributions().get("vllm", [])
    return {name: importlib.metadata.version(name) for name in names}


def setting_problems(given: Mapping[str, Any]) -> list[str]:
    """Which names vLLM does not have, where it is installed, and which values are of no use.

    Args:
        given: `engine_kwargs`.
    """
    known = argument_names()
    unknown = [
        f"{FIELD}[{key!r}]={value!r}: vLLM has no such argument{nearest(key, known)}"
        for key, value in given.items()
        if known and key not in known
    ]
    kinds = {name: kind for name, kind in _KINDS.items() if name in given}
    return [*unknown, *value_problems(given, kinds, FIELD)]


def argument_names() -> frozenset[str]:
    """What `vllm.LLM` can be called with; nothing if vLLM is not installed, or built otherwise."""
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    return _names_in(Path(spec.submodule_search_locations[0]))


@cache
def _names_in(root: Path) -> frozenset[str]:
    fields = _class_in(root / "engine" / "arg_utils.py", "EngineArgs")
    model = _class_in(root / "entrypoints" / "llm.py", "LLM")
    if fields is None or model is None:
        return frozenset()
    return frozenset(name for name in (*_fields(fields), *_arguments(model)) if name[0] != "_")


def _class_in(path: Path, name: str) -> ast.ClassDef | None:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, SyntaxError):
        return None
    found = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return next(found, None)


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            yield line.target.id


def _arguments(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            yield from (argument.arg for argument in (*line.args.args[1:], *line.args.kwonlyargs))
