"""Which of reasoning-gym's tasks, at which level, with which settings and weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from sfpo_envs.options import instead

REFUSED = {
    "composite": "give its parts as `tasks` instead",
    "codeio": "it runs the programs of its data set, and one seed gives different problems",
    "game_of_life_halting": "its scorer takes any text for True, so that every guess is paid",
}
"""Tasks that cannot be trained on, with the reason."""

NUM_ITEMS = 20_000
"""The ``size`` of every data set: how many different items the tasks of this table have."""
FINITE = ("acre", "gsm_symbolic", "list_functions", "word_ladder")
"""Tasks whose items end with their data set; those of the others go on."""

Tasks = str | Sequence[str] | Mapping[str, float | Mapping[str, Any]]


@dataclass(frozen=True)
class TaskSpec:
    """One task of a mixture.

    Attributes:
        name: Reasoning-gym's name.
        weight: Its share, relative to the others'.
        level: Level of its curriculum: of all its attributes, of some by name, or ``None`` for the
            settings' defaults.
        settings: Settings of its configuration, which go before the curriculum's.
    """

    name: str
    weight: float = 1.0
    level: int | Mapping[str, int] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def import_reasoning_gym() -> ModuleType:
    """Return the package.

    Raises:
        ImportError: It is not installed; the message says how to.
    """
    try:
        import reasoning_gym
        import reasoning_gym.factory
    except ImportError as error:
        raise ImportError(
            "sfpo/ReasoningGym-v0 needs reasoning-gym: pip install 'reasoning-gym==0.1.25'"
        ) from error
    return reasoning_gym


def parse_tasks(tasks: Tasks, difficulty: int | None) -> tuple[TaskSpec, ...]:
    """Read the ``tasks`` option.

    Args:
        tasks: A name, names, or a mapping of names to a weight or to settings, among which
            ``weight`` and ``level`` are ours.
        difficulty: The level of tasks that have a curriculum and no ``level`` of their own.

    Raises:
        ValueError: A task or a setting does not exist, or is out of its range.
    """
    named: Mapping[str, Any]
    if isinstance(tasks, Mapping):
        named = tasks
    else:
        named = dict.fromkeys([tasks] if isinstance(tasks, str) else tasks, 1.0)
    if not named:
        raise ValueError(f"tasks={tasks!r}: must name at least one task")
    if difficulty is not None:
        _check_level("difficulty", difficulty)
    return tuple(_parse_task(name, value, difficulty) for name, value in named.items())


def make_dataset(spec: TaskSpec, seed: int) -> Any:
    """Return reasoning-gym's data set of a task.

    Args:
        spec: The task.
        seed: Chooses its items.

    Raises:
        ValueError: Reasoning-gym refuses the settings.
    """
    factory = import_reasoning_gym().factory
    dataset_class, config_class = factory.DATASETS[spec.name]
    fixed = {"seed": seed, "size": NUM_ITEMS}
    try:
        if spec.level is None:
            config = config_class(**spec.settings, **fixed)
        else:
            generated = _at_level(spec).generate_configuration()
            config = dataclasses.replace(generated, **spec.settings, **fixed)
        return dataset_class(config)
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(f"tasks: {spec.name} refuses {dict(spec.settings)}: {error}") from error


def _parse_task(name: str, value: Any, difficulty: int | None) -> TaskSpec:
    factory = import_reasoning_gym().factory
    if name in REFUSED:
        raise ValueError(f"tasks: {name!r} is not offered: {REFUSED[name]}")
    if name not in factory.DATASETS:
        raise ValueError(
            f"tasks: there is no {name!r}; {instead(name, set(factory.DATASETS) - set(REFUSED))}"
        )
    settings = dict(value) if isinstance(value, Mapping) else {"weight": value}
    weight, level = settings.pop("weight", 1.0), settings.pop("level", None)
    if not (isinstance(weight, int | float) and 0 < weight < math.inf):
        raise ValueError(f"tasks: weight={weight!r} of {name}: must be a positive number")
    if level is None and name in factory.CURRICULA:
        level = difficulty
    known = {field.name for field in dataclasses.fields(factory.DATASETS[name][1])}
    known -= {"seed", "size"}
    for key in settings:
        if key in ("seed", "size"):
            raise ValueError(f"tasks: {key} of {name}: is an option of the environment")
        if key not in known:
            names = [*sorted(known), "weight", "level"]
            raise ValueError(f"tasks: {name} has no setting {key!r}; {instead(key, names)}")
    spec = TaskSpec(name, float(weight), level, settings)
    if level is not None:
        _at_level(spec)
    return spec


def _at_level(spec: TaskSpec) -> Any:
    """Return the curriculum of a task at its level."""
    curricula = import_reasoning_gym().factory.CURRICULA
    if spec.name not in curricula:
        raise ValueError(f"tasks: {spec.name} has no curriculum, and so no level")
    curriculum = curricula[spec.name]()
    if not isinstance(spec.level, Mapping):
        _check_level(f"tasks: level of {spec.name}", spec.level)
        curriculum.set_global_level(spec.level)
        return curriculum
    for attribute, level in spec.level.items():
        if attribute not in curriculum.attributes:
            raise ValueError(
                f"tasks: {spec.name} has no level of {attribute!r}; "
                f"{instead(attribute, curriculum.attributes)}"
            )
        highest = len(curriculum.attributes[attribute].levels) - 1
        if not (isinstance(level, int) and 0 <= level <= highest):
            raise ValueError(
                f"tasks: level {level!r} of {attribute!r} of {spec.name}: must be an int from 0 to "
                f"{highest}"
            )
        curriculum.set_attr_level(attribute, level)
    return curriculum


def _check_level(name: str, level: Any) -> None:
    if not (isinstance(level, int) and level >= 0):
        raise ValueError(f"{name}={level!r}: must be an int from 0 on")
