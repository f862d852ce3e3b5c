"""From a file and settings of the command line to a config, without anything being started."""

import importlib.util
import os
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.algorithms import GRPOConfig, SFPOConfig
from sfpo_rllib.config_files import strict_yaml
from sfpo_rllib.config_files.overrides import Override, parse_override, with_overrides
from sfpo_rllib.core.checks import first_line, nearest

ALGORITHMS: dict[str, type[GRPOConfig]] = {"SFPO": SFPOConfig, "GRPO": GRPOConfig}
_DEFAULT_ALGO = "SFPO"
_YAML = (".yaml", ".yml")
_LOADED: set[str] = set()  # modules that are configs
# Options, and what they are options of: those of another one are not kept.
_OWNERS = {"env_config": "env", "engine_kwargs": "rollout_engine"}
# Of a config, and no settings.
_NOTES = {
    *("algo_class", "class", "in_evaluation", "simple_optimizer", "is_frozen"),
    "preset_overrides",
}
# What RLlib's own files and other commands call things.
_ELSEWHERE = {
    "run": "write algo: SFPO, or GRPO",
    "stop": "give --iterations",
    "iterations": "give --iterations",
    "output": "give --output",
    "checkpoint_every": "give --checkpoint-every",
    "model": "write model_config: {model: ...}",
    "max_tokens": "write sampling: {max_tokens: ...}",
    "temperature": "write sampling: {temperature: ...}",
}


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> GRPOConfig:
    """The config in a file, with what the command line sets; it is not validated yet.

    A YAML file holds the settings of RLlib's config dict, under `config` or at the top, and
    `algo`, SFPO or GRPO. A Python file defines `config`. Modules beside the file can be imported,
    here and in the processes that Ray starts.

    Args:
        path: Ends in .yaml, .yml or .py.
        overrides: Each `key=value`, its key with dots where it goes into a dict, its value YAML.

    Raises:
        ValueError: If the file cannot be read, or a setting does not exist. It begins with the
            file, but for what is wrong with `overrides`.
    """
    parsed = [parse_override(text) for text in overrides]
    path = Path(path)
    if not path.is_file():
        what = "is a folder; name the file in it" if path.is_dir() else "there is no such file"
        raise ValueError(f"{path}: {what}")
    _make_importable(path.resolve().parent)
    try:
        if path.suffix in _YAML:
            return _with(*_read_yaml(path, parsed))
        if path.suffix == ".py":
            return _with(_read_python(path), {}, parsed)
        raise ValueError(f"must end in .yaml, .yml or .py, and ends in {path.suffix!r}")
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_yaml(
    path: Path, overrides: list[Override]
) -> tuple[GRPOConfig, dict[str, Any], list[Override]]:
    """The algorithm's config, the settings of the file, and the overrides that are left."""
    try:
        content = strict_yaml.parse(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"must be text in UTF-8, and is none: {error.reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"must be a mapping from settings to values, and is {_kind(content)}")
    algo = content.pop("algo", _DEFAULT_ALGO)
    for keys, value in overrides:
        if keys == ["algo"]:
            algo = value
    if not isinstance(algo, str) or algo not in ALGORITHMS:
        raise ValueError(
            f"algo={algo!r}: must be one of {[*ALGORITHMS]}{nearest(algo, ALGORITHMS)}"
        )
    inner = content.pop("config", {})
    if not isinstance(inner, dict):
        raise ValueError(f"config={inner!r}: must be a mapping from settings to values")
    if twice := inner.keys() & content.keys():
        raise ValueError(f"{min(twice)}: stands at the top and under config; keep one of them")
    return ALGORITHMS[algo](), {**content, **inner}, [o for o in overrides if o[0] != ["algo"]]


def _read_python(path: Path) -> GRPOConfig:
    """The config that a module defines."""
    name = path.stem
    taken = name in sys.stdlib_module_names or name in sys.modules.keys() - _LOADED
    if taken or "." in name:
        raise ValueError(f"must have another name, as {name!r} is that of another module")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Under its name, so that processes of Ray's import its classes and functions from it.
    sys.modules[name] = module
    _LOADED.add(name)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        lines = [
            f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == spec.origin
        ]
        line = error.lineno if isinstance(error, SyntaxError) else (lines or [None])[-1]
        raise ValueError(f"line {line}: {type(error).__name__}: {first_line(error)}") from error
    if not hasattr(module, "config"):
        raise ValueError("must define `config`, an SFPOConfig or a GRPOConfig")
    config = module.config
    if not isinstance(config, GRPOConfig):
        raise ValueError(f"config={config!r:.200}: must be an SFPOConfig or a GRPOConfig")
    return config.copy(copy_frozen=False)


def _with(config: GRPOConfig, settings: Mapping[str, Any], overrides: list[Override]) -> GRPOConfig:
    """The config with settings of a file, and then the command line's."""
    _require_known([*settings.items()], config)
    _require_known([(keys[0], value) for keys, value in overrides], config)
    _update(config, settings)
    begun: dict[str, Any] = {}  # dicts that overrides go into
    given = {keys[0]: value for keys, value in overrides if len(keys) == 1}
    for (name, *inner), _ in overrides:
        owner = _OWNERS.get(name)
        another = owner in given and given[owner] != getattr(config, owner)
        if inner and not another:
            begun[name] = _as_set(config, name)
    # All at once, as in the file: what is given wins over what a preset brings.
    _update(config, with_overrides(begun, overrides))
    return config


def _as_set(config: AlgorithmConfig, name: str) -> Any:
    """The value without what RLlib's properties add."""
    return vars(config).get(f"_{name}", getattr(config, name, None))


def _update(config: GRPOConfig, settings: Mapping[str, Any]) -> None:
    named = {_key(config, name): value for name, value in settings.items()}
    try:
        config.update_from_dict(named)
    except Exception:  # RLlib's setters have asserts, and take apart what is of no use
        for name, value in settings.items():
            try:
                type(config)().update_from_dict({_key(config, name): value})
            except Exception as error:
                why = first_line(error) or type(error).__name__
                raise ValueError(f"{name}={value!r:.200}: RLlib does not take it: {why}") from error
        raise


def _key(config: AlgorithmConfig, name: str) -> str:
    """What RLlib's dicts call a setting: some are properties that cannot be set."""
    own = getattr(type(config), name, None)
    return f"_{name}" if isinstance(own, property) and own.fset is None else name


def _require_known(given: list[tuple[str, Any]], config: AlgorithmConfig) -> None:
    known = settings_of(config)
    wrong = [
        f"{name}={value!r:.200}: no such setting"
        + (f"; {_ELSEWHERE[name]}" if name in _ELSEWHERE else nearest(name, known))
        for name, value in given
        if name not in known
    ]
    if wrong:
        raise ValueError("\n".join(wrong))


def settings_of(config: AlgorithmConfig) -> list[str]:
    """The names of all settings, as one gives them in a dict."""
    fresh = vars(type(config)())
    names = {name.removeprefix("_") for name in fresh}
    return sorted(name for name in names - _NOTES if name in fresh or hasattr(type(config), name))


def _make_importable(folder: Path) -> None:
    """For this process, and those that a Ray of its own starts."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(folder) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), *paths]))


def _kind(content: Any) -> str:
    return "empty" if content is None else f"a {type(content).__name__}"
