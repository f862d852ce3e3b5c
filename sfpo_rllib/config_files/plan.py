"""What a run would train, and what it would need: nothing is started."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sfpo_rllib.algorithms import GRPOConfig
from sfpo_rllib.algorithms.grpo.rllib_settings import HARMLESS, shape_problems
from sfpo_rllib.algorithms.grpo.validation import model_problems
from sfpo_rllib.core.checks import raise_problems
from sfpo_rllib.preflight import Preflight
from sfpo_rllib.run_loop.identity import plain_settings


@dataclass(frozen=True)
class RunPlan:
    """A validated config, as people and programs read it.

    Attributes:
        algorithm: Name.
        settings: All of them, as JSON has them.
        changed: Those that are not their defaults.
        memory: The estimate.
        processes: What each process asks Ray for, and how many of the like there are.
    """

    algorithm: str
    settings: dict[str, Any]
    changed: dict[str, Any]
    memory: Preflight
    processes: list[tuple[int, Mapping[str, float]]]

    @property
    def resources(self) -> dict[str, float]:
        """What all processes ask for together."""
        total: Counter[str] = Counter()
        for number, resources in self.processes:
            total.update({name: number * amount for name, amount in resources.items()})
        return dict(total)


def plan_of(config: GRPOConfig) -> RunPlan:
    """Validates a config, which it leaves as it is, and says what it comes to.

    Raises:
        ValueError: If it is not valid.
    """
    config, bundles = _validated(config)
    settings, defaults = plain_settings(config), plain_settings(type(config)())
    alike = Counter(tuple(sorted(bundle.items())) for bundle in bundles)
    return RunPlan(
        algorithm=config.algo_class.__name__,
        settings=settings,
        changed={n: v for n, v in settings.items() if v != defaults.get(n) and n not in HARMLESS},
        memory=config.preflight(),
        processes=[(number, dict(bundle)) for bundle, number in alike.items()],
    )


def check(config: GRPOConfig) -> None:
    """Validates a config, and that of its evaluation, as building the algorithm would.

    Raises:
        ValueError: If it is not valid.
    """
    _validated(config)


def _validated(config: GRPOConfig) -> tuple[GRPOConfig, list[dict[str, float]]]:
    """A copy that is valid, and what its processes ask for."""
    config = config.copy(copy_frozen=False)
    config.validate()
    # Looks at evaluation's settings, too.
    return config, config.algo_class.default_resource_request(config).bundles


def memory_of(config: GRPOConfig, *, device_memory_gb: float | None = None) -> Preflight:
    """Estimates the memory of a config whose environment and engine need not be here.

    Args:
        config: Left as it is.
        device_memory_gb: Of each GPU, in 10^9 bytes. None: of the first GPU visible here.

    Raises:
        ValueError: If a value is wrong, or the model cannot be found.
    """
    problems = shape_problems(vars(config)) or [*config.cheap_problems()]
    raise_problems(problems or model_problems(config.model_config), of=type(config).__name__)
    return config.preflight(device_memory_gb=device_memory_gb)
