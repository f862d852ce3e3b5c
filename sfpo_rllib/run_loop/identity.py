"""What makes two runs the same: the settings and the model, not the machine they run on."""

import hashlib
import re
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Self

from ray.rllib.algorithms.algorithm_config import AlgorithmConfig

from sfpo_rllib.algorithms.grpo.carried import unpacked

# How fast and how safely, not what is learned: may differ from one session of a run to the next.
FREE = {
    "num_env_runners",
    "num_env_threads",
    "num_gpus",
    *(
        f"{prefix}_{what}"
        for prefix in ("num_cpus", "num_gpus", "custom_resources")
        for what in ("for_main_process", "per_env_runner", "per_learner")
    ),
    "placement_strategy",
    "local_gpu_idx",
    "restart_failed_env_runners",
    "restart_failed_learners",
    "max_num_env_runner_restarts",
    "delay_between_env_runner_restarts_s",
    "env_runner_restore_timeout_s",
    "env_runner_health_probe_timeout_s",
    "env_timeout_s",
    "rollout_timeout_s",
    "evaluation_interval",
    "evaluation_num_env_runners",
    "log_level",
    "record_rollouts",
    "record_rollouts_mb",
    "show_replies_every",
    "snapshot_device",
}
_MODEL = "model_config.model"
_ENDS_HASHED = 1 << 20  # bytes at both ends of a file: weights that were trained differ there


@dataclass(frozen=True)
class Identity:
    """What a run trains.

    Attributes:
        algorithm: Name of its class.
        settings: Those that are not their defaults, as JSON has them.
        model: A digest of the model's folder, wherever that lies; None for a model of a hub.
    """

    algorithm: str
    settings: dict[str, Any]
    model: str | None

    @classmethod
    def of(cls, config: AlgorithmConfig) -> Self:
        """Of a validated config."""
        defaults = plain_settings(type(config)())
        given = plain_settings(config)
        settings = {name: value for name, value in given.items() if value != defaults.get(name)}
        return cls(config.algo_class.__name__, settings, fingerprint(config.model_config["model"]))

    def differences(
        self, before: "Identity", defaults: AlgorithmConfig, may_differ: Collection[str] = ()
    ) -> Iterator[str]:
        """What differs from another one, as `field=value: must be ...`.

        Args:
            before: What the run was so far.
            defaults: A config as it is made.
            may_differ: Settings that may, as "lr" or "env_config.num_digits".
        """
        if self.algorithm != before.algorithm:
            yield f"algorithm={self.algorithm!r}: must be {before.algorithm!r}"
        ignored = {*may_differ}
        if self.model == before.model is not None:
            ignored.add(_MODEL)  # the folder may have been moved
        default = plain_settings(defaults)
        for name in sorted({*self.settings, *before.settings} - FREE - ignored):
            if name.startswith("callbacks"):  # they watch
                continue
            sides = (of.settings.get(name, default.get(name)) for of in (self, before))
            for field, here, there in _unequal(name, *sides):
                if field not in ignored:
                    yield f"{field}={here!r}: must be {there!r}"
        same_place = self.settings.get("model_config") == before.settings.get("model_config")
        if self.model != before.model and same_place and _MODEL not in ignored:
            path = self.settings["model_config"]["model"]
            yield f"{_MODEL}={path!r}: must hold the files that the run began with"


def fingerprint(model: str) -> str | None:
    """A digest of a transformers folder, wherever it lies; None for the id of a hub."""
    folder = Path(model)
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_ENDS_HASHED))
            file.seek(max(size - _ENDS_HASHED, 0))
            digest.update(file.read(_ENDS_HASHED))
    return digest.hexdigest()


def _unequal(name: str, here: Any, there: Any) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(here, dict) and isinstance(there, dict):
        for key in sorted({*here, *there}):
            yield from _unequal(f"{name}.{key}", here.get(key), there.get(key))
    elif here != there:
        yield name, here, there


def plain_settings(config: AlgorithmConfig) -> dict[str, Any]:
    """All settings of a config as JSON has them, equal where what is trained is equal."""
    return {
        name.lstrip("_"): plain(value)
        for name, value in unpacked(config.to_dict()).items()
        if name != "class"  # which one that was saved has
    }


def plain(value: Any) -> Any:
    """The value as JSON has it: equal in any process in which it is equal."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Integral):  # numpy's, which are equal to Python's
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    name = getattr(value, "__qualname__", None)
    if name is not None:  # a class or function
        return f"{_module_of(value)}.{name}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _module_of(value: Any) -> str:
    """The module of a class or function, by the same name whether it is run or imported."""
    name: str = value.__module__
    main = sys.modules["__main__"]
    if name != "__main__":
        return name
    if main.__spec__ is not None:  # by python -m
        return main.__spec__.name
    return Path(getattr(main, "__file__", name)).stem
